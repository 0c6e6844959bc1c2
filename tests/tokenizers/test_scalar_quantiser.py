"""Scalar quantisation: codes come back, errors fall with bits, bad settings are refused."""

import pytest
import torch
from unified.tokenizers.scalar_quantiser import ScalarQuantiser


@pytest.mark.parametrize("bits", [1, 3, 6, 8])
def test_codes_come_back_and_levels_rise(bits):
    quantiser, codes = ScalarQuantiser(bits), torch.arange(2**bits)
    assert torch.equal(quantiser.encode(quantiser.decode(codes)), codes)
    assert (quantiser.levels.diff() > 0).all()
    torch.testing.assert_close(quantiser.levels, -quantiser.levels.flip(0), rtol=0, atol=1e-4)


def test_errors_are_those_of_the_note():
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    found = [
        float((q.decode(q.encode(values)) - values).square().mean()) for q in map(ScalarQuantiser, (4, 6))
    ]
    assert found[0] == pytest.approx(0.0103, rel=0.05)
    assert found[1] == pytest.approx(0.00066, rel=0.1)


def test_levels_are_the_means_of_their_bins():
    quantiser = ScalarQuantiser(3)
    sample = torch.randn(400_000, generator=torch.Generator().manual_seed(1)).clamp(-2.999, 2.999)
    bins = torch.bucketize(sample, quantiser.edges[1:-1])
    means = torch.stack([sample[bins == code].mean() for code in range(8)])
    torch.testing.assert_close(means, quantiser.levels, rtol=0, atol=0.02)


def test_values_beyond_the_range_take_the_outermost_level():
    quantiser = ScalarQuantiser(4, low=-2.0, high=1.0)
    assert quantiser.encode(torch.tensor([-9.0, 9.0])).tolist() == [0, 15]


@pytest.mark.parametrize("options", [{"bits": 0}, {"reach": 0.0}, {"low": 5.0}])
def test_bad_settings_are_refused(options):
    with pytest.raises(ValueError, match="scalar quantiser needs"):
        ScalarQuantiser(**options)
