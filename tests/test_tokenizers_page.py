"""The page on visual tokenizers is true: its commands and its Python run, at tiny sizes."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from unified.tokenizers.kinds import KINDS
from unified.train.__main__ import main as train

from unified.apps.cli import main as unified

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "tokenizers.md").read_text()
QUICK = ["--steps", "1", "--batch", "2", "--codes", "64", "--dim", "4", "--cpu"]


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    (root / "photos").mkdir()
    (root / "films" / "walk").mkdir(parents=True)
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "photos" / f"{number}.png")
        Image.fromarray(pixels).save(root / "films" / "walk" / f"{number}.png")
    return root


def run(line):
    words = shlex.split(line)
    if words[0] == "torchrun":
        words = ["python", "-m", "unified.train", *words[words.index("unified.train") + 1 :]]
    if words[0] == "unified":
        return unified([*words[1:], "--count", "1"] if words[1] == "eval" else words[1:])
    return train([*words[3:], *QUICK])


@pytest.mark.slow
def test_the_commands_and_the_python_run(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(lines) == 6
    for line in lines:
        assert run(line) == 0, f"{line}: {capsys.readouterr().err}"
    assert (place / "runs/compared/tokenizer.png").is_file()
    scope: dict = {}
    for block in blocks("python"):
        exec(compile(block, "tokenizers.md", "exec"), scope)
    assert scope["result"].ids[0].shape == (1, 32)
    assert scope["picture"][0]["content"][0]["image"].shape == (64, 64, 3)


def test_the_table_has_every_kind():
    assert set(re.findall(r"^\| `(\w+)` \| ", PAGE, flags=re.MULTILINE)) == set(KINDS)
