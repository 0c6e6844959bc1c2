"""A published VAREdit as a folder: a picture and an instruction give a picture of the same size."""

import json
import shutil

import numpy as np
import pytest
import text_to_image_folders as folders
from PIL import Image
from unified.tokenizers.images import to_images, to_uint8

import unified
from unified.apps.cli import main
from unified.checkpoints.infinity_generation import Habits
from unified.checkpoints.varedit.sampling import edit, padded_to_square
from unified.decoding.guidance import Constant
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = folders.infinity(tmp_path_factory.mktemp("published") / "varedit")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_type": "varedit"}))
    return path


@pytest.fixture(scope="module")
def editor(folder):
    return unified.load(folder, device="cpu", dtype="float32", seed=3)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (32, 24, 3), dtype=np.uint8)


def test_it_is_what_the_published_network_writes(editor, picture):
    found = editor.edit(picture, "a red cube", guidance=2.0, temperature=0.0)
    model, square = editor.model, padded_to_square(to_images(picture))
    latent = model.needed_tokenizer().latent(square)
    habits = Habits(sampler=Sampler(temperature=0), noise=PositionNoise([3]))
    made = edit(model, editor.drawer.text.features(["a red cube"]), latent, Constant(2.0), habits=habits)
    want = to_uint8(model.image(made.codes, model.shapes) * 2 - 1)[0]
    assert np.array_equal(found, want[:, :24])
    other = editor.edit(picture, "a blue cube", guidance=2.0, temperature=0.0)
    assert not np.array_equal(found, other)
    moved = editor.edit(picture[::-1].copy(), "a red cube", guidance=2.0, temperature=0.0)
    assert not np.array_equal(found, moved)


def test_without_a_text_encoder_the_instruction_is_given_as_features(folder, editor, picture, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("text_encoder"))
    other = unified.load(bare, device="cpu", dtype="float32", seed=3)
    features = editor.drawer.text.features(["a red cube"])[0]
    want = editor.edit(picture, "a red cube", temperature=0.0)
    assert np.array_equal(other.edit(picture, features, temperature=0.0), want)
    for wrong, words in [("a red cube", "no text_encoder/"), (features[:, :3], r"\[1 to 12, 128\]")]:
        with pytest.raises(ValueError, match=words):
            other.edit(picture, wrong)


def test_the_command_edits_and_refuses_the_rest_in_one_line(folder, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture).save("a.png")
    told = ["--model", str(folder), "--device", "cpu", "--dtype", "float32"]
    assert main(["edit", "a.png", "a red cube", "--out", "b.png", *told]) == 0
    assert Image.open("b.png").size == (24, 32)
    capsys.readouterr()
    for words, message in [
        (["draw", "a red cube"], "use edit"),
        (["edit", "a.png", "a red cube", "--mask", "a.png"], "--mask is not for this model"),
        (["edit", "a.png", "a red cube", "--adapter", "a.safetensors"], "--adapter is for models in this"),
    ]:
        assert main([*words, *told]) == 2
        lines = [line for line in capsys.readouterr().err.split("\n") if line and "Loading" not in line]
        assert len(lines) == 1
        assert message in lines[0]
