"""Conditions: edges where colours change, features where their cells are."""

import numpy as np
import pytest
import torch

from unified.apps.conditions import channels, edges, features, small
from unified.orders import plan_for


def test_edges_are_thin_closed_and_of_colour_too():
    picture = np.full((32, 32, 3), 128, dtype=np.uint8)
    picture[8:24, 8:24] = (128 + 60, 128 - 31, 128)  # nearly the same brightness
    found = edges(picture)
    assert found.shape == picture.shape
    assert set(np.unique(found)) == {0, 255}
    on = found[:, :, 0] > 0
    assert on[16, 7:9].sum() == on[16, 23:25].sum() == on[7:9, 16].sum() == on[23:25, 16].sum() == 1
    assert not on[10:22, 10:22].any()
    assert not on[:6].any()
    assert edges(np.zeros((8, 8, 3), dtype=np.uint8)).max() == 0


def test_a_slot_has_the_pixels_of_its_own_place():
    plan = plan_for("next_scale", ((1, 1), (2, 2), (4, 4)))
    picture = torch.full((1, 3, 16, 16), -1.0)
    picture[:, :, 4:8, 8:12] = 1.0  # row 1, column 2 of the last map
    found = features(picture, plan)
    assert found.shape == (1, 21, channels())
    lit = (found > -1).any(dim=2)[0]
    assert lit.nonzero()[:, 0].tolist() == [0, 1 + 1, 5 + 4 + 2]
    assert bool((found[0, 11] == 1).all())


def test_a_small_picture_has_lost_what_is_finer():
    checks = np.indices((16, 16)).sum(axis=0) % 2 * 255
    picture = np.repeat(checks[:, :, None], 3, axis=2).astype(np.uint8)
    assert np.abs(small(picture, 2).astype(int) - 128).max() <= 1
    assert np.array_equal(small(picture, 1), picture)
    with pytest.raises(ValueError, match="factor"):
        small(picture, 0)
