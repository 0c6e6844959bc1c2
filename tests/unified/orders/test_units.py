"""Units: permutations that lose nothing, their labels, and what is refused."""

import pytest
import torch

from unified.orders.units import units


@pytest.mark.parametrize(
    ("kind", "side", "size"), [("token", 1, 1), ("cell", 2, 4), ("subsample", 2, 6), ("image", 1, 24)]
)
def test_split_and_join_lose_nothing(kind, side, size):
    made, tokens = units(kind, 4, 6, side), torch.randn(2, 24, 3)
    assert (made.size, made.count) == (size, 24 // size)
    assert torch.equal(made.labels, torch.arange(24) // size)
    assert torch.equal(made.join(made.split(tokens)), tokens)


def test_cells_are_blocks_and_subsamples_are_lattices():
    assert units("cell", 4, 4, 2).places[:8].tolist() == [0, 1, 4, 5, 2, 3, 6, 7]
    assert units("subsample", 4, 4, 2).places[:8].tolist() == [0, 2, 8, 10, 1, 3, 9, 11]


@pytest.mark.parametrize(("kind", "side", "words"), [("scale", 1, "unknown unit"), ("cell", 3, "side 3")])
def test_other_units_are_refused(kind, side, words):
    with pytest.raises(ValueError, match=words):
        units(kind, 4, 4, side)
