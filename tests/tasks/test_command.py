"""`python -m unified.tasks` as a user types it, and its contact sheets."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from unified.tasks.__main__ import main
from unified.tasks.panels import action_words, panels
from unified.tasks.registry import TASKS, make
from unified.tasks.sheet import COLOURS, LINE, MARGIN, TITLE_SIZE
from unified.tasks.show import sheet, show

ROOT = Path(__file__).parents[2]


def said(capsys):
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_list_names_every_task(capsys):
    assert main(["list"]) == 0
    out, _ = said(capsys)
    assert [line.split()[0] for line in out.splitlines()[::2]] == list(TASKS)


def test_the_module_is_run_by_name():
    command = [sys.executable, "-m", "unified.tasks", "show", "mase"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("unified.tasks: unknown task 'mase': choose one of")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_sheet(name, data_options):
    options = {key: value for key, value in data_options(name).items() if key != "size"}
    sheet = show(name, count=1, size=64, options=options)
    assert sheet.mode == "RGB"
    assert 200 < sheet.width <= 1100
    assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 20


def test_a_sheet_grows_with_its_count_and_is_the_same_every_time():
    one, six, again = (show("scene_question", count=count, size=64) for count in (1, 6, 6))
    assert six.width * six.height > 3 * one.width * one.height
    assert six.tobytes() == again.tobytes()


def test_what_a_task_made_says_so_in_the_picture_and_answers_of_a_model_do_not():
    def caption(image):
        stripe = np.asarray(image)[MARGIN + TITLE_SIZE + 4 :][:LINE]
        return bool((stripe == COLOURS["system"]).all(axis=2).any())

    samples = [make("maze").sample(0, "train")]
    assert caption(show("maze", count=1))
    assert not caption(sheet(samples, "step 3"))


def test_show_writes_a_png(tmp_path, capsys):
    out = tmp_path / "lake.png"
    arguments = ["show", "frozen_lake", "--out", str(out), "--count", "1", "--seed", "3", "--size", "96"]
    assert main([*arguments, "--option", "sizes=[4]", "--option", "image_size=80"]) == 0
    assert f"wrote {out}" in said(capsys)[0]
    assert Image.open(out).format == "PNG"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "maze", "--count", "0"], "count must lie in 1 to 200, got 0"),
        (["show", "maze", "--option", "sizes"], "an option is KEY=VALUE, got 'sizes'"),
        (["show", "maze", "--option", "walls=3"], "unknown option 'walls'"),
        (["show", "maze", "--option", "name=3"], "unknown option 'name'"),
        (["show", "maze", "--size", "0"], "task 'maze': "),
        (["show", "maze", "--split", "dev"], "unknown split 'dev'"),
        (["show", "captions"], "needs the option 'folder'"),
        (["show", "maze", "--count", "1", "--out", "/no/such/folder/a.png"], "No such file"),
        (["build", "/no/such.json", "out"], "/no/such.json: cannot be read"),
        (["check", "mase"], "unknown task 'mase'"),
        (["check", "maze", "--count", "0"], "count must be at least 1"),
        (["validate", "captions", "/no/such/folder"], "not a folder"),
    ],
)
def test_errors_are_one_line_and_status_2(arguments, message, capsys):
    assert main(arguments) == 2
    out, err = said(capsys)
    assert message in err
    assert err.startswith("unified.tasks: ")
    assert err.count("\n") == 1
    assert "wrote" not in out


def test_check_prints_a_table(capsys):
    assert main(["check", "small_talk", "--count", "5"]) == 0
    out, _ = said(capsys)
    assert out.splitlines()[1].split() == ["small_talk", "20", "20", "yes", "yes"]


def test_validate_tells_every_fault_with_its_line(tmp_path, capsys):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("broken")
    names = ("a.png", "x.png", "b.png", "a.png")
    lines = [json.dumps({"file_name": name, "text": "words"}) for name in names]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    assert main(["validate", "captions", str(tmp_path)]) == 2
    out, err = said(capsys)
    assert [line.split(": ")[0] for line in err.splitlines()] == ["metadata.jsonl:2", "metadata.jsonl:3"]
    assert "2 good records, 2 bad" in out
    pairs = tmp_path / "pairs.json"
    pairs.write_text('[{"prompt": "p", "chosen": "a", "rejected": "b"}]')
    assert main(["validate", "preference", str(pairs)]) == 0
    assert "1 good records, 0 bad" in said(capsys)[0]


def test_actions_in_words():
    assert action_words({"forward": 1, "jump": 0, "camera": [0.2, 12.4]}) == "forward, turn right 12°"
    assert action_words({"hotbar.3": 1, "camera": [-5.0, -1.0]}) == "slot 3, turn left 1°, look up 5°"
    assert action_words({"forward": 0, "camera": [0.0, 0.0]}) == "wait"


def test_a_long_clip_is_thinned_and_keeps_all_turns():
    sample = make("world_frames", frames=20, size=16).sample(1)
    told = [item["action"] for m in sample.messages for item in m["content"] if item["type"] == "action"]
    shown = panels(sample)
    assert len(shown) <= 8
    assert sum(len(panel.actions) for panel in shown) == 19
    assert [action for panel in shown for action in panel.actions] == told


def test_a_maze_is_shown_as_states_with_their_actions():
    sample = make("maze").sample(0)
    shown = panels(sample)
    assert [panel.role for panel in shown] == ["user"] + ["assistant"] * (len(shown) - 1)
    words = ", ".join(text for panel in shown for _, text in panel.words())
    assert words == ", ".join(sample.meta["actions"])
