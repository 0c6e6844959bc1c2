"""The commands as a user types them: train an adapter in two steps, draw with it."""

import numpy as np
import pytest
from PIL import Image
from unified.train.__main__ import main as train

from unified.apps.cli import main
from unified.apps.demo import random_model
from unified.pretrained import save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model, and two pictures with captions beside it."""
    home = tmp_path_factory.mktemp("home")
    save_model(home / "model", *random_model())
    (home / "data").mkdir()
    for number in range(2):
        picture = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(home / "data" / f"{number}.png")
        (home / "data" / f"{number}.txt").write_text("a square")
    return home


@pytest.fixture
def call(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)

    def run(of, command, *words):
        try:
            status = of([command, "--model", "model", "--device", "cpu", *words])
        except SystemExit as stop:
            status = stop.code
        out = capsys.readouterr()
        return status, out.out, out.err

    return run


TINY = ("--steps", "2", "--rows", "2", "--size", "32")


def test_a_control_is_trained_and_drawn_with(call):
    status, said, _ = call(train, "control", "--data", "data", "--out", "edges.safetensors", *TINY)
    assert (status, said.splitlines()[-1]) == (0, "wrote edges.safetensors")
    with_it = ("--adapter", "edges.safetensors", "--tries", "1", "--out", "a.png")
    assert call(main, "control", "--edges", "data/0.png", "a square", *with_it)[0] == 0
    assert call(main, "control", "--condition", "data/0.png", "a square", *with_it)[0] == 0
    assert Image.open("a.png").size == (64, 64)
    status, _, error = call(main, "control", "--edges", "data/0.png", "a square")
    assert (status, len(error.splitlines())) == (2, 1)
    assert "python -m unified.train control" in error
    status, _, error = call(main, "draw", "a square", "--adapter", "edges.safetensors")
    assert (status, len(error.splitlines())) == (2, 1)
    assert "reads a picture" in error


def test_a_picture_is_drawn_larger(call):
    words = ("--data", "data", "--out", "larger.safetensors", *TINY)
    assert call(train, "upscale", *words)[0] == 0
    options = ("--to", "72", "--adapter", "larger.safetensors", "--out", "b.png")
    status, said, _ = call(main, "upscale", "data/0.png", *options)
    assert (status, said) == (0, "Wrote b.png: 72 x 72 pixels.\n")


def test_a_subject_and_a_style_are_taught_and_drawn(call):
    words = ("data", "--word", "sks", *TINY)
    assert call(train, "subject", *words, "--prior", "2", "--out", "sks.safetensors")[0] == 0
    assert call(train, "subject", *words, "--style", "--out", "style.safetensors")[0] == 0
    both = ("--adapter", "sks.safetensors", "--adapter", "style.safetensors:style")
    assert call(main, "draw", "a sks object", *both, "--tries", "1", "--out", "c.png")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("control", "--data", "nowhere", "--out", "a.safetensors"), "nowhere"),
        (("control", "--data", "data", "--out", "a.pt"), "name a file such as a.safetensors"),
        (("subject", "data", "--word", " ", "--out", "a.safetensors"), "the word for the subject is empty"),
        (("subject", "nowhere.png", "--word", "x", "--out", "a.safetensors"), "no such file or folder"),
        (("upscale", "--data", "data", "--factor", "1", "--out", "a.safetensors"), "factor of 2"),
    ],
)
def test_what_does_not_fit_is_one_line(call, words, message):
    status, _, error = call(train, *words)
    assert status == 2
    assert message in error
    assert len(error.splitlines()) == 1
