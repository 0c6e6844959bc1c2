"""Answers with sketches as a user has them: texts, features and pictures, from files."""

import image_text_families as families
import numpy as np
import pytest
import sketch_models as models
import torch
from PIL import Image

from unified.apps import latent_sketchpad
from unified.apps.latent_sketchpad import Drawn, LatentSketchpad
from unified.checkpoints import sketch_decoder
from unified.checkpoints.autoencoder_kl import AutoencoderKL
from unified.checkpoints.mineworld_networks import MineWorldVQConfig
from unified.checkpoints.sketch_decoder import SketchDecoder, SketchDecoderConfig
from unified.vision_language.sketchpad.files import save_head
from unified.vision_language.sketchpad.thinking import SketchRule

EVERY = pytest.mark.parametrize("name", models.FAMILIES)


def decoder(features=32):
    torch.manual_seed(0)
    vae = AutoencoderKL(MineWorldVQConfig(latent=4, widths=(8, 16), groups=4))
    sizes = {"width": 16, "heads": 4, "layers": 1, "inner": 16, "grid": 8, "position_rows": 64}
    return SketchDecoder(SketchDecoderConfig(features=features, **sizes), vae).eval()


@pytest.fixture
def place(folders, tmp_path):
    """A folder of a model with head and decoder, and a picture."""

    def made(name):
        folder = families.save(name, tmp_path / name)
        save_head(folder, models.sketchpad(folders.load(name)).head)
        sketch_decoder.save(folder, decoder())
        Image.fromarray(models.picture(1)).save(tmp_path / "a.png")
        return folder, tmp_path / "a.png"

    return made


def opening(made):
    """A sampler that says one word, then opens a sketch, over and over."""

    greedy = made.sampler

    class Opens:
        said = 0

        def draw(self, logits, noise, places):
            self.said += 1
            drawn = greedy.draw(logits, noise, places)
            drawn.symbols[...] = made.pad.begin if self.said % 2 == 0 else 20
            return drawn

    return Opens()


@EVERY
def test_sketches_become_pictures(place, name):
    folder, picture = place(name)
    made = latent_sketchpad.load(folder)
    made.sampler = opening(made)
    pieces = list(made.answer("Where?", picture, rule=SketchRule(closer=None, sketches=2)))
    drawn = [piece for piece in pieces if isinstance(piece, Drawn)]
    assert len(drawn) == 2
    assert all(one.picture.shape == (16, 16, 3) and one.picture.dtype == np.uint8 for one in drawn)
    assert not np.array_equal(drawn[0].picture, drawn[1].picture)
    assert made.thinking.stopped == "sketches"
    made.decoder = None
    assert made.drawn(drawn[0].features).picture is None


@EVERY
def test_the_command_saves_text_and_sketches(place, name, tmp_path, capsys, monkeypatch):
    folder, picture = place(name)
    load = latent_sketchpad.load

    def opened(*given, **options):
        made = load(*given, **options)
        made.sampler = opening(made)
        return made

    monkeypatch.setattr(latent_sketchpad, "load", opened)
    saved = tmp_path / "saved"
    words = [str(picture), "--model", str(folder), "--own", "--sketches", "1", "--save", str(saved)]
    assert latent_sketchpad.main(words) == 0
    out, err = capsys.readouterr()
    assert "[sketch 0]" in out
    assert "1 sketches; ended: sketches" in err
    assert "[sketch 0]" in (saved / "answer.txt").read_text()
    assert Image.open(saved / "sketch_0.png").size == (16, 16)


def test_a_decoder_of_other_features_is_refused(folders):
    loaded = folders.load("gemma3")
    with pytest.raises(ValueError, match="draws features of width 10, the model has 32"):
        LatentSketchpad(models.sketchpad(loaded), loaded[1], decoder(10))


@pytest.mark.parametrize("wrong", [["--sketches", "-1"], ["--max-tokens", "0"], ["--head", "nowhere"]])
def test_bad_input_is_one_line(place, wrong, tmp_path, capsys):
    folder, picture = place("gemma3")
    saved = tmp_path / "saved"
    assert latent_sketchpad.main([str(picture), "--model", str(folder), "--save", str(saved), *wrong]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not saved.exists()
