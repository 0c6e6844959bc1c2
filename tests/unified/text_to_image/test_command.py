"""`unified draw` and `unified info` with a published text-to-image model."""

import json

import numpy as np
import pytest
from PIL import Image

import unified
from unified.apps.cli import main


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(command, folder, *arguments):
        try:
            status = main(
                [command, "--model", str(folder), "--device", "cpu", "--dtype", "float32", *arguments]
            )
        except SystemExit as stop:
            status = stop.code
        out = capsys.readouterr()
        return status, out.out, out.err

    return call


def said_in(error):
    """The one line about an error; the library's bars of progress are none."""
    (line,) = [line for line in error.split("\n") if line and "Loading weights" not in line]
    return line


def test_draw_writes_the_image(run, infinity_folder, tmp_path):
    status, out, _ = run("draw", infinity_folder, "a red cube", "cube.png", "--seed", "3")
    assert (status, out) == (0, "Wrote cube.png: 32 x 32 pixels.\n")
    want = unified.load(infinity_folder, device="cpu", dtype="float32", seed=3).draw("a red cube")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "cube.png")), want)


def test_draw_takes_the_options_of_the_family(run, infinity_folder, tmp_path):
    options = ("--size", "34x26", "--guidance", "2", "--temperature", "0", "--scale-kv", "60")
    status, _, error = run("draw", infinity_folder, "a red cube", "--out", "a.png", *options)
    assert status == 2
    assert "no published schedule has 34x26 pixels" in said_in(error)
    status, _, _ = run(
        "draw", infinity_folder, "a red cube", "--out", "a.png", "--size", "42x28", *options[2:]
    )
    assert status == 0
    assert Image.open(tmp_path / "a.png").size == (28, 42)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("draw", "a cube", "--tries", "2"), "--tries is not for this model"),
        (("draw", "a cube", "--scale-kv", "none.json"), "none.json: no such file"),
        (("draw", "a cube", "--scale-kv", "0"), "must be at least 1"),
        (("ask", "What is this?"), "use draw"),
        (("chat",), "use draw"),
        (("eval", "drawing"), "eval is for models in this project's own form"),
    ],
)
def test_what_is_refused_is_one_line(run, infinity_folder, arguments, said):
    status, _, error = run(arguments[0], infinity_folder, *arguments[1:])
    assert status == 2, error
    assert said in said_in(error)


def test_info(run, infinity_folder):
    status, out, _ = run("info", infinity_folder, "--json")
    found = json.loads(out)
    assert status == 0
    assert (found["family"], found["layers"], found["bits_of_a_code"]) == ("infinity", 2, 4)
    assert found["maps"][-1] == [16, 16]


def test_the_shipped_kind_of_model_has_no_scalekv_option(run, tmp_path):
    from unified.apps.demo import random_model
    from unified.pretrained import save_model

    save_model(tmp_path / "own", *random_model())
    status, _, error = run("draw", tmp_path / "own", "a cube", "--scale-kv", "60")
    assert (status, error) == (2, "unified: --scale-kv is not for this model\n")
