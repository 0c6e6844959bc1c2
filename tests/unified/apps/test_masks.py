"""Edits with a mask: codes outside it stay, inside they are drawn anew."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from unified.apps.assistant import EDITING, Assistant, images_of
from unified.apps.demo import random_model
from unified.apps.masks import in_painting, kept_cells
from unified.decoding.guidance import Constant

SIDE = 32


@pytest.fixture(scope="module")
def guide():
    return Assistant(*random_model(), side=SIDE)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def left_half(side=SIDE):
    mask = np.zeros((side, side), dtype=bool)
    mask[:, : side // 2] = True
    return mask


def test_a_cell_is_painted_where_at_least_half_of_it_is_white():
    mask = np.zeros((16, 32), dtype=np.uint8)
    mask[:4, :8], mask[8:12, 8:15] = 255, 255
    assert kept_cells(mask, (16, 32), 8).tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]


def test_codes_outside_the_mask_stay_and_inside_are_drawn(guide, picture):
    before = torch.tensor(guide.processor.image_item(picture, drawn=True)["codes"])
    settings = replace(EDITING, hook=in_painting(guide.processor, picture, left_half()))
    content = guide._answer(guide.request("Paint a star.", picture), settings, picture)
    item = next(item for item in content if item["type"] == "image")
    grid = (SIDE // 8, SIDE // 8)
    old, new = (np.array(codes)[-16:].reshape(grid) for codes in (before, item["codes"]))
    assert (old[:, 2:] == new[:, 2:]).all()
    assert (old[:, :2] != new[:, :2]).any()
    edited = guide.edit(picture, "Paint a star.", mask=left_half(), guidance=1.5, tries=1)
    assert edited.shape == picture.shape
    settings = replace(settings, guidance=Constant(1.5))
    content = guide._answer(guide.request("Paint a star.", picture), settings, picture)
    assert np.array_equal(images_of(content)[-1], edited)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((SIDE, SIDE), dtype=np.uint8), "nothing to paint"),
        (left_half()[: SIDE // 2], "another aspect ratio than the picture: 32 x 16"),
        ("nowhere.png", "no such file"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_in_one_line(guide, picture, mask, words):
    with pytest.raises(ValueError, match=words) as error:
        guide.edit(picture, "Paint a star.", mask=mask)
    assert len(str(error.value).splitlines()) == 1
