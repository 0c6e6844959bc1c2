"""The page on own data is true: its commands, its error lines and its Python run, on tiny data."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from unified.train.__main__ import main

from unified.apps.demo import random_model
from unified.pretrained import save_model

pytest.importorskip("peft", reason="peft comes with the extra `train`")
pytest.importorskip("datasets", reason="datasets comes with the extra `train`")

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "own_data.md").read_text()
QUICK = ["--steps", "1", "--rows", "1", "--size", "16", "--length", "256"]  # in place of what is not given
MACHINE = ["--cpu", "--workers", "1"]


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the data that the page names, and a tiny model."""
    from datasets import Dataset
    from unified.envs.recordings import record
    from unified.envs.voxel import VoxelEnv

    root = tmp_path_factory.mktemp("page")
    (root / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "photos" / "cat.png")
    line = json.dumps({"file_name": "cat.png", "text": "A grey cat on a chair."})
    (root / "photos" / "metadata.jsonl").write_text(line)
    shutil.copytree(root / "photos", root / "bad")
    (root / "bad" / "metadata.jsonl").write_text(f"{line}\n{line.replace('cat.png', 'dog.png')}")
    turns = [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A cat."}]
    (root / "talk.json").write_text(json.dumps([{"image": "photos/cat.png", "conversations": turns}]))
    (root / "pairs.jsonl").write_text(json.dumps({"prompt": "Hi", "chosen": "Hello.", "rejected": "No."}))
    turns = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    Dataset.from_list([{"messages": turns}] * 2).save_to_disk(str(root / "rows"))
    (root / "play").mkdir()
    env = VoxelEnv(width=32, height=32, world_size=(24, 24, 24), max_steps=0)
    record(env, lambda _: {"forward": 1}, root / "play" / "one", steps=12, seed=0)
    shutil.copytree(root / "photos", root / "traces" / "images")
    trace = {"input_text": "Find the way. <image>", "label_text": "Go. <actions>go</actions><image>Done."}
    trace |= {name: ["images/cat.png"] for name in ("input_img", "label_img", "rl_label_img")}
    trace |= {"label_actions": ["go"], "total_step": 0}
    (root / "traces" / "records.jsonl").write_text(json.dumps(trace))
    save_model(root / "model", *random_model())
    return root


def run(line, place):
    """A command of the page with what makes it quick."""
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "unified.train"]
    words = words[3:]
    if words[0] == "fine-tune":
        pairs = list(zip(QUICK[::2], QUICK[1::2], strict=True))
        given = [word for name, value in pairs if name not in words for word in (name, value)]
        words += ["--model", str(place / "model"), *given]
    return main([*words, *MACHINE])


def test_the_commands_run(place, monkeypatch):
    monkeypatch.chdir(place)
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(lines) == 8
    for line in lines:
        assert run(line, place) == 0, line
    assert json.loads((place / "runs/longer/recipe.json").read_text())["stages"][0]["steps"] == 4
    assert (place / "runs/lora/stages/0-fine-tune/adapter/adapter_config.json").is_file()


def test_the_error_lines_are_what_is_said(place, monkeypatch, capsys):
    """Runs after the commands, in the folders that they left."""
    monkeypatch.chdir(place)
    lines = blocks("console")[0].splitlines()
    asked, said = lines[::2], lines[1::2]
    assert len(asked) == len(said) == 6
    for command, expected in zip(asked, said, strict=True):
        assert run(command.removeprefix("$ "), place) == 2, command
        found = capsys.readouterr().err.splitlines()[-1]
        start, dots, end = expected.partition("...")
        assert found.startswith(start) if dots else found == expected
        assert found.endswith(end)


def test_the_python_runs(place, monkeypatch):
    monkeypatch.chdir(place)
    scope = {"MODEL": place / "model"}
    for block in blocks("python"):
        exec(compile(block, "own_data.md", "exec"), scope)
    assert scope["assistant"].folder == Path("runs/trainer/checkpoint-2")
