"""docs/preference.md is true: its commands run on tiny data, errors are what it says, its Python runs."""

import json
import re
import shlex
from pathlib import Path

import pytest
from unified.train.__main__ import main as train

from unified.cli import main as command

PAGE = Path(__file__).resolve().parents[3] / "docs" / "preference.md"
TEXT = PAGE.read_text(encoding="utf-8")
COMMANDS = {"python -m unified.train ": train, "unified ": command}


def lines(language):
    return [block.splitlines() for block in re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)]


def shell():
    """(command, what it says on failing or "")."""
    found = []
    for line in (line for block in lines("bash") for line in block):
        if line.startswith("# "):
            found[-1] = (found[-1][0], line[2:])
        else:
            found.append((line, ""))
    return found


@pytest.fixture(scope="module")
def place(smoke, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "prompts.txt").write_text("Draw a red circle.\n\nDraw a blue square.\n")
    bad = [
        {"prompt": "Hi", "chosen": "Hello.", "rejected": "Hello."},
        {"prompt": "Draw.", "chosen_image": "gone.png", "rejected": "No."},
    ]
    (folder / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bad))
    return folder


def test_the_commands_run_and_fail_as_the_page_says(place, smoke, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr("builtins.input", lambda _: "1")
    ran = 0
    for line, wanted in shell():
        start = next((start for start in COMMANDS if line.startswith(start)), None)
        if start is None:
            assert "unified.train.experiments" in line  # tests/train/test_experiments.py
            continue
        words = shlex.split(line.removeprefix(start))
        words = [str(smoke / "model") if word == "FOLDER" else word for word in words]
        status = COMMANDS[start](words)
        said = capsys.readouterr().err
        assert status == (2 if wanted else 0), f"{line}\n{said}"
        assert wanted in said
        ran += 1
    assert ran >= 10
    recorded = [json.loads(row) for row in Path("mine.jsonl").read_text().splitlines()]
    assert {row["by"] for row in recorded} == {"person"}
    assert len(recorded) == 3
    assert all(Path(f"runs/{name}/model/model.safetensors").is_file() for name in ("dpo", "both", "rounds"))


def test_its_records_are_read(place, smoke, monkeypatch):
    """Every spelling of the page, with pictures of their names."""
    import numpy as np
    from PIL import Image
    from unified.train.preference import read_pairs

    from unified.pretrained import load_processor

    monkeypatch.chdir(place)
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        Image.fromarray(np.full((32, 32, 3), 90 * number, dtype=np.uint8)).save(name)
    records = lines("json")[0]
    Path("own.jsonl").write_text("\n".join(records) + "\n")
    found = read_pairs(["own.jsonl"], load_processor(smoke / "model"))
    assert len(found) == len(records) == 5
    assert found[2] == found[3]


def test_its_python_runs(place, monkeypatch):
    monkeypatch.chdir(place)
    scope: dict = {}
    for block in lines("python"):
        exec(compile("\n".join(block), str(PAGE), "exec"), scope)
    assert scope["stage"].kind == "preference"
    assert scope["trainer"].state.global_step == 2
