"""Vectors as whole numbers, and back."""

import pytest
import torch
from unified.tokenizers.latent_grid import LatentGrid, bits_for


@pytest.mark.parametrize(("channels", "bits"), [(2, 15), (4, 15), (6, 10), (8, 7), (10, 6)])
def test_a_vector_comes_back_within_half_a_level(channels, bits):
    grid = LatentGrid(channels)
    assert grid.bits == bits
    vectors = torch.randn(50, channels, generator=torch.Generator().manual_seed(0)).clamp(-3.9, 3.9)
    codes = grid.to_codes(vectors)
    assert codes.dtype == torch.int64
    assert int(codes.min()) >= 0
    assert int(codes.max()) < grid.codes
    assert (grid.to_vectors(codes) - vectors).abs().max() <= 1.001 * grid.reach / 2**bits
    assert torch.equal(grid.to_codes(grid.to_vectors(codes)), codes)


def test_what_lies_outside_is_moved_to_the_border():
    grid = LatentGrid(2, bits=8, reach=1.0)
    assert grid.to_codes(torch.tensor([-9.0, 9.0])).item() == 255
    assert grid.to_vectors(torch.tensor(0)).tolist() == pytest.approx([-1 + 1 / 256] * 2)


@pytest.mark.parametrize("channels", [1, 11, 16])
def test_more_channels_than_an_id_spells_are_refused(channels):
    with pytest.raises(ValueError, match="needs 2 to 10 channels"):
        bits_for(channels)


def test_more_bits_than_an_id_has_are_refused():
    with pytest.raises(ValueError, match="at most 7 bits"):
        LatentGrid(8, bits=8)
