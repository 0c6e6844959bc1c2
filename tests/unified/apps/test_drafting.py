"""Answers drafted by a smaller model: the same words, in fewer passes; another tokenizer is one line."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest

import unified
from unified.apps.cli import main
from unified.apps.drafting import draft_with, same_spelling

sys.path.insert(0, str(Path(__file__).parents[1] / "vision_language"))
import image_text_families as families


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("drafts")
    return lambda name: root / name if (root / name).is_dir() else families.save(name, root / name)


@pytest.fixture(scope="module")
def load(folder):
    return lambda name: unified.load(folder(name), device="cpu", dtype="float32")


def picture():
    return np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)


def spoken(talk):
    first = "".join(piece.text for piece in talk.say("What is it?", [picture()]))
    return first, "".join(piece.text for piece in talk.say("And why?"))


def test_a_model_that_sees_says_the_same_with_a_draft(load, folder):
    model = load("qwen2_5_vl")
    plain = model.ask("Where?", picture(), max_tokens=12), spoken(model.chat(max_tokens=12))
    assert draft_with(model, folder("qwen3_vl"), device="cpu", dtype="float32") == ""
    assert (model.ask("Where?", picture(), max_tokens=12), spoken(model.chat(max_tokens=12))) == plain
    talk = model.chat(max_tokens=8)
    spoken(talk)
    assert talk._session.stats.draft_passes > 0


def test_another_tokenizer_is_one_line_and_changes_nothing(load, folder):
    model = load("qwen2_5_vl")
    note = draft_with(model, folder("gemma3"), device="cpu", dtype="float32")
    assert "its text tokenizer is another" in note
    assert "\n" not in note
    assert model.strategy is None
    assert same_spelling(model, model)


def test_the_command_takes_a_draft(folder, capsys, monkeypatch):
    given = ["chat", "--model", str(folder("qwen2_5_vl")), "--tokens", "8", "--device", "cpu", "--no-history"]
    said = []
    for name in ("qwen3_vl", "gemma3"):
        folder(name)
    capsys.readouterr()
    for more in ([], ["--draft", str(folder("qwen3_vl"))], ["--draft", str(folder("gemma3"))]):
        monkeypatch.setattr("sys.stdin", io.StringIO("Hello?\n/quit\n"))
        assert main([*given, *more]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    note, rest = said[2].strip("\n").split("\n", 1)
    assert "drafts nothing" in note
    assert rest.strip("\n") == said[0].strip("\n")
    assert main([*given, "--draft", "nowhere"]) == 2
