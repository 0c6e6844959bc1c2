"""The command line as a user types it, on a saved tiny random model."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unified.apps.cli import COMMANDS, main, parser
from unified.apps.demo import random_model
from unified.pretrained import save_model

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, *random_model())
    return str(folder)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "a.png"
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(image).save(path)
    return str(path)


@pytest.fixture
def run(model, capsys, tmp_path, monkeypatch):
    """Run a command in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        try:
            status = main([arguments[0], "--model", model, "--device", "cpu", *arguments[1:]])
        except SystemExit as stop:
            status = stop.code
        out = capsys.readouterr()
        return status, out.out, out.err

    return call


def test_every_command_has_help_and_a_function(capsys):
    actions = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    assert set(actions[0].choices) == set(COMMANDS)
    for name in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        # `extend` takes a folder that is no model of ours, `lab` has models of its own
        assert ("--model" in capsys.readouterr().out) == (name not in ("extend", "lab"))


def test_ask_prints_the_answer_and_json_for_machines(run, picture):
    status, said, _ = run("ask", "What is this?", "--image", picture)
    assert status == 0
    status, printed, _ = run("ask", "What is this?", "--image", picture, "--json")
    assert (status, json.loads(printed)["answer"].strip()) == (0, said.strip())
    status, glanced, _ = run("ask", "What is this?", "--image", picture, "--no-look")
    assert status == 0
    assert glanced != said


def test_answers_may_be_grounded(run, picture, monkeypatch):
    from unified.apps import assistant as module
    from unified.decoding.grounding import MutualInformation

    plain = run("ask", "What is this?", "--image", picture, "--no-look")
    assert run("ask", "What is this?", "--image", picture, "--no-look", "--grounded")[0] == 0
    monkeypatch.setattr(module, "MutualInformation", lambda: MutualInformation(decay=2.0))
    strong = run("ask", "What is this?", "--image", picture, "--no-look", "--grounded")
    assert strong[0] == plain[0] == 0
    assert strong[1] != plain[1]


def test_a_strategy_is_chosen_by_name(run):
    for name in ("one_pass", "speculative", "lantern"):
        assert run("draw", "A star.", "--strategy", name, "--out", f"{name}.png")[0] == 0
    assert Path("one_pass.png").read_bytes() == Path("speculative.png").read_bytes()  # greedy decoding
    status, _, error = run("draw", "A star.", "--strategy", "fast", "--out", "a.png")
    assert status == 2
    assert "unknown strategy 'fast'" in error
    assert len(error.splitlines()) == 1


def test_the_seed_decides(run):
    pictures = []
    for seed in ("1", "1", "2"):
        options = ["--temperature", "1", "--seed", seed, "--out", "a.png"]
        assert run("draw", "A red star.", *options)[0] == 0
        pictures.append(Path("a.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_draw_and_edit_write_pictures(run):
    status, said, _ = run("draw", "A star.", "--size", "32x64", "--out", "star.png")
    assert (status, said) == (0, "Wrote star.png: 64 x 32 pixels.\n")
    status, printed, _ = run("edit", "star.png", "Make it blue.", "--out", "blue.png", "--json")
    assert (status, json.loads(printed)) == (0, {"file": "blue.png", "size": [32, 64]})
    assert Image.open("blue.png").size == (64, 32)


def test_an_edit_may_have_a_mask(run, picture):
    white = np.zeros((64, 64), dtype=np.uint8)
    white[:, :32] = 255
    Image.fromarray(white).save("mask.png")
    assert run("edit", picture, "Make it blue.", "--mask", "mask.png", "--out", "a.png")[0] == 0
    status, _, error = run("edit", picture, "Make it blue.", "--mask", "nowhere.png")
    assert (status, error) == (2, "unified: nowhere.png: no such file\n")


def test_imagine_follows_a_script_of_words_or_of_json(run, picture):
    Path("walk.txt").write_text("# a walk\nforward x3\n\nforward camera 0 5 jump\nwait\n")
    lines = [{"forward": 1}] * 3 + [{"forward": 1, "camera": [0, 5], "jump": 1}, {"camera": [0, 0]}]
    Path("walk.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for script, out in (("walk.txt", "a.png"), ("walk.jsonl", "b.png")):
        status, _, _ = run("imagine", picture, script, "--out", out)
        assert status == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert Image.open("a.png").size == (6 * 64, 64)
    status, printed, _ = run("imagine", picture, "walk.txt", "--json")
    assert json.loads(printed) == {"file": "walk.gif", "frames": 6}
    gif = Image.open("walk.gif")  # frames that are equal are stored as one that lasts longer
    durations = [gif.seek(k) or gif.info["duration"] for k in range(gif.n_frames)]
    assert sum(durations) == 600


def test_act_names_what_is_pressed(run, picture):
    status, printed, _ = run("act", picture, "--task", "Collect logs.", "--json")
    action = json.loads(printed)["action"]
    assert status == 0
    assert len(action["camera"]) == 2
    assert all(value == 1 for name, value in action.items() if name != "camera")


def test_solve_reports_actions(run, picture):
    status, printed, _ = run("solve", picture, "--text-only", "--json")
    assert status == 0
    assert json.loads(printed).keys() == {"actions", "text", "sketches", "cut", "file", "folder"}


def test_solve_writes_a_page_and_a_strip_and_streams(run, picture, tmp_path):
    limits = ["--most-images", "2", "--most-ids", "400"]
    status, printed, _ = run("solve", picture, "--own", *limits, "--save", "trace")
    assert status == 0
    page = (tmp_path / "trace" / "trace.html").read_text(encoding="utf-8")
    sketches = printed.count("[sketch ")
    assert page.count("data:image/png;base64,") == sketches + 1
    with Image.open(tmp_path / "trace" / "strip.png") as strip:
        assert strip.size == (64 * (sketches + 1) + 4 * sketches, 64)
    status, printed, _ = run("solve", picture, "--own", *limits, "--json")
    assert json.loads(printed)["cut"], "a random model never ends by itself in 400 ids"
    assert json.loads(printed)["sketches"] == sketches


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--most-images", "3"], "add --own"),
        (["--text-only", "--own"], "draws no sketches"),
        (["--own", "--most-seconds", "-1"], "--most-seconds"),
        (["--prompt", " "], "the prompt is empty"),
        (["--save", "{picture}"], "is a file: name a folder"),
    ],
)
def test_solve_refuses_what_does_not_fit(run, picture, words, message):
    status, _, printed = run("solve", picture, *(word.format(picture=picture) for word in words))
    assert status == 2
    assert message in printed


def test_info_counts_parameters(run):
    status, printed, _ = run("info", "--json")
    found = json.loads(printed)
    assert status == 0
    assert found["parameters"] == found["of_the_model"] + found["of_the_tokenizer"]
    assert "maps" in run("info")[1]


BAD = [
    (["ask", ""], "the question is empty"),
    (["ask", "x", "--image", "nowhere.png"], "nowhere.png: no such file"),
    (["ask", "x", "--image", "PICTURE", "--image", "PICTURE"], "about one picture, got 2"),
    (["ask", "x", "--dtype", "int3"], "--dtype"),
    (["ask", "x", "--device", "abacus"], "device 'abacus'"),
    (["ask", "x", "--seed", "-1"], "--seed"),
    (["ask"], "question"),
    (["draw", "x", "--size", "5"], "HEIGHTxWIDTH"),
    (["draw", "x", "--size", "30x30"], "sides of 8"),
    (["draw", "x", "--out", "a.xyz"], "name a picture"),
    (["draw", "x", "--out", "missing/a.png"], "there is no folder"),
    (["edit", "nowhere.png", "x"], "nowhere.png"),
    (["imagine", "PICTURE", "nowhere.txt"], "nowhere.txt: no such file of actions"),
    (["imagine", "PICTURE", "bad.txt"], "bad.txt:2: unknown action key 'fly'"),
    (["imagine", "PICTURE", "empty.txt"], "no actions"),
    (["imagine", "PICTURE", "turn.txt"], "camera needs"),
    (["imagine", "PICTURE", "good.txt", "--out", "a.mp4"], ".gif"),
    (["eval", "nonsense"], "unknown suite 'nonsense'"),
    (["eval", "questions", "--count", "0"], "--count"),
    (["eval", "world", "--inverse", "nowhere"], "no such file"),
    (["eval", "world", "--recordings", "nowhere"], "not a folder"),
    (["eval", "--recordings", "nowhere"], "--recordings is for the suite world"),
    (["fly"], "fly"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(bad[0]) for bad in BAD])
def test_bad_input_is_one_line_and_status_2(run, picture, arguments, message):
    Path("bad.txt").write_text("forward\nfly\n")
    Path("empty.txt").write_text("# nothing\n")
    Path("turn.txt").write_text("camera 5\n")
    Path("good.txt").write_text("forward\n")
    status, out, err = run(*[picture if word == "PICTURE" else word for word in arguments])
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""


def test_a_model_that_is_none_is_one_line(capsys, tmp_path):
    assert main(["info", "--model", str(tmp_path)]) == 2
    assert "processor.json: no such file" in capsys.readouterr().err


def test_a_failure_of_the_work_is_status_1(run, monkeypatch):
    import unified.decoding.session

    def full(*_, **__):
        raise RuntimeError("out of memory\nlong story")

    monkeypatch.setattr(unified.decoding.session.Session, "feed", full)
    status, _, err = run("ask", "x")
    assert (status, err) == (1, "unified: out of memory\n")


def start(*arguments, **options):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "unified", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_chat_survives_everything(model, picture, tmp_path):
    cut = tmp_path / "cut.png"
    cut.write_bytes(Path(picture).read_bytes()[:200])
    lines = [
        "Hello.",
        "",
        "word " * 10_000,
        f"/image {cut}",
        "/image nowhere.png",
        f"/image {picture}",
        "What is this?",
        "/draw a red circle",
        "/edit make it blue",
        "/play forward x2",
        "/play fly",
        "/play",
        "/frobnicate",
        f"/save {tmp_path / 'last.png'}",
        "/save /nowhere/last.png",
        "/new",
        "/edit something",
        f"/save {tmp_path / 'talk.txt'}",
        "/help",
        "/quit",
    ]
    chat = start("chat", "--model", model, "--tokens", "3", "--out", str(tmp_path / "out"))
    out, err = chat.communicate("\n".join(lines) + "\n", timeout=120)
    assert chat.returncode == 0, err
    assert err == ""
    for words in (
        "! nothing was said",
        "shorten it",
        "! nowhere.png: no such file",
        "cut.png",
        "unknown action key 'fly'",
        "! unknown command /frobnicate",
        "/nowhere/last.png",
        "! there is no picture yet",
        "/solve [FILE]",
    ):
        assert words in out, words
    assert "(drawing" not in out  # a pipe is given no line that is overwritten
    assert len(list((tmp_path / "out").glob("*.png"))) >= 3  # drawn, edited, played
    assert Image.open(tmp_path / "last.png").size == (64, 64)
    assert "> Hello." in (tmp_path / "talk.txt").read_text()


def test_ctrl_c_in_an_answer_stops_the_answer_alone(model, tmp_path):
    chat = start("chat", "--model", model, "--device", "cpu", "--out", str(tmp_path / "out"))
    assert chat.stdin
    assert chat.stdout
    chat.stdin.write("Hello.\n")
    chat.stdin.flush()
    seen = ""
    while "> " not in seen and (letter := chat.stdout.read(1)):
        seen += letter
    assert "> " in seen
    chat.stdout.read(3)  # the answer has begun
    chat.send_signal(signal.SIGINT)
    time.sleep(0.2)
    out, err = chat.communicate(f"/save {tmp_path / 'talk.txt'}\n/quit\n", timeout=60)
    assert chat.returncode == 0, err
    assert "(stopped)" in out
    assert (tmp_path / "talk.txt").exists()
    assert "Traceback" not in err


@pytest.mark.slow
def test_eval_writes_a_report(run):
    status, out, err = run("eval", "questions", "--count", "2", "--out", "report")
    assert status == 0, err
    assert "Questions answered" in out
    assert "questions, all kinds" in out
    report = json.loads(Path("report/report.json").read_text())
    assert report["suites"]["questions"]["numbers"]["all"]["trials"] == 2
    assert report["split"] == "test"
    assert "![questions](questions.png)" in Path("report/report.md").read_text()
    assert Image.open("report/questions.png").size[0] > 50
    again = run("eval", "questions", "--count", "2", "--out", "report", "--batch", "1", "--json")[1]
    suites = [json.loads(text)["suites"]["questions"]["numbers"] for text in (again, json.dumps(report))]
    assert suites[0] == suites[1], "the batch changes nothing"


def test_info_of_files_is_that_of_the_loaded_model(capsys, model):
    found = []
    for options in ([], ["--device", "cpu"]):
        assert main(["info", "--model", model, "--json", *options]) == 0
        found.append(json.loads(capsys.readouterr().out))
    quick, loaded = found
    assert {name: value for name, value in loaded.items() if name in quick} == quick
    assert set(loaded) - set(quick) == {"device", "dtype", "attention"}


def test_info_imports_no_torch():
    code = "import sys; from unified.apps.cli import main; main(['info']); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "False"


def test_info_names_a_file_that_is_cut(capsys, tmp_path, model):
    whole = tmp_path / "model"
    shutil.copytree(model, whole)
    weights = whole / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert main(["info", "--model", str(whole)]) == 2
    assert "model.safetensors: not a readable safetensors file" in capsys.readouterr().err
