"""LlamaGen drawn from a folder, by class and by caption."""

import shutil

import numpy as np
import pytest
import text_to_image_folders as folders
import torch
from unified.tokenizers.images import to_uint8

import unified
from unified.checkpoints.nar_generation import Prompted
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session


def load(folder, seed=0):
    return unified.load(folder, device="cpu", dtype="float32", seed=seed)


@pytest.fixture(scope="module")
def by_class(class_folder):
    return load(class_folder)


@pytest.fixture(scope="module")
def by_caption(caption_folder):
    return load(caption_folder)


@torch.no_grad()
def by_hand(drawer, told, ids, scale, sampler):
    session = Session(told, seed=0)
    session.feed(ids)
    drawing = session.draw(((4, 4),), order=drawer.model.order, sampler=sampler, guidance=Constant(scale))
    return to_uint8(drawer.tokenizer.decode(drawing.maps()[0], (4, 4)))[0]


def test_a_class_is_drawn_as_by_the_verified_pieces(by_class):
    told = Prompted.by_class(by_class.model)
    want = by_hand(by_class.drawer, told, told.prompts[3], 4.0, Sampler(top_k=2000))
    image = by_class.draw("3")
    assert image.shape == (8, 8, 3)
    np.testing.assert_array_equal(image, want)
    assert (image != by_class.draw("1")).any()


def test_a_caption_is_drawn_as_by_the_verified_pieces(by_caption):
    """Padding stands before the caption, which is made lower case."""
    features = by_caption.drawer.text.features(["a red cube"])[0]
    given = torch.zeros(1, 10, 16)
    given[0, 10 - len(features) :] = features
    mask = (torch.arange(10) >= 10 - len(features)).long()[None]
    told = Prompted.by_caption(by_caption.model, given, mask)
    want = by_hand(by_caption.drawer, told, told.prompts[0], 7.5, Sampler(top_k=1000))
    np.testing.assert_array_equal(by_caption.draw(" A red cube"), want)
    assert (want != by_caption.draw("a blue cube")).any()


def test_seeds_and_temperature(by_class, class_folder):
    other = load(class_folder, seed=1)
    assert (by_class.draw("3") != other.draw("3")).any()
    np.testing.assert_array_equal(by_class.draw("3", temperature=0.0), other.draw("3", temperature=0.0))


def test_classes_by_name(class_folder, tmp_path):
    folder = shutil.copytree(class_folder, tmp_path / "named")
    (folder / "classes.txt").write_text("tench\ngoldfish\nshark\n")
    named = load(folder)
    assert named.drawer.label("Goldfish") == 1
    with pytest.raises(ValueError, match=r"a number from 0 to 4 or a name in classes.txt, got 'whale'"):
        named.draw("whale")


def test_what_it_does_not_draw(by_class, by_caption):
    with pytest.raises(ValueError, match="a number from 0 to 4, got '5'"):
        by_class.draw("5")
    with pytest.raises(ValueError, match="this model draws 8x8 pixels, got 16x16"):
        by_caption.draw("a cube", size=(16, 16))
    with pytest.raises(ValueError, match="map by map"):
        by_caption.draw("a cube", scale_kv=8)
    with pytest.raises(ValueError, match="the prompt is empty"):
        by_caption.draw("  ")


def test_it_runs_in_bfloat16(caption_folder):
    assert unified.load(caption_folder, device="cpu", dtype="bfloat16").draw("a cube").shape == (8, 8, 3)


def test_released_sizes_have_the_published_options():
    from unified.checkpoints.llamagen import config_from, released
    from unified.text_to_image.llamagen import TRANSFORMERS

    for name, options in TRANSFORMERS.items():
        known = {"vocab_size": 16384, "block_size": 24**2, "num_classes": 1000}
        assert config_from({**options, **known}) == released(name, side=24)


def test_a_tokenizer_of_other_codes(class_folder, tmp_path):
    folder = shutil.copytree(class_folder, tmp_path / "copy")
    config = folders.read_config(folder)
    config["transformer"]["vocab_size"] = 33
    folders.write_config(folder, config)
    with pytest.raises(ValueError, match="weights do not fit"):
        load(folder)
