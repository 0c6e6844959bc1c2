"""The rejection rule of speculative sampling for continuous values."""

import math

import pytest
import torch

from unified.decoding.noise import PositionNoise
from unified.decoding.strategies.gaussian import log_ratio, verify_values
from unified.heads.distribution import Gaussian


def verdict(shift, count=20000, channels=3, **options):
    """Of drafts from a standard normal distribution, under one moved by `shift` in its first channel."""
    q = Gaussian(torch.zeros(1, count, channels), torch.zeros(1, count, channels))
    p = Gaussian(q.mean + torch.tensor([shift, 0.0, 0.0][:channels]), q.log_std)
    places = torch.arange(count)[None]
    noise = PositionNoise([1])
    drafted = noise.normal(places, channels, "drafts").float()
    return verify_values(p, q, drafted, noise, places, **options), drafted


@pytest.mark.parametrize("shift", [0.5, 1.5])
def test_values_follow_the_model_and_acceptance_is_the_overlap(shift):
    found, _ = verdict(shift)
    assert not found.capped.any()
    overlap = math.erfc(shift / 2 / 2**0.5)  # 1 - total variation
    assert abs(float(found.accepted.float().mean()) - overlap) < 0.02
    values = found.values[0]
    torch.testing.assert_close(values.mean(dim=0), torch.tensor([shift, 0.0, 0.0]), atol=0.04, rtol=0)
    torch.testing.assert_close(values.std(dim=0), torch.ones(3), atol=0.04, rtol=0)
    ranked = values[:, 0].sort().values  # the whole law: Kolmogorov's distance
    shares = torch.special.ndtr(ranked.double() - shift)
    assert float((shares - torch.linspace(0, 1, len(shares), dtype=torch.float64)).abs().max()) < 0.015


def test_equal_laws_accept_every_draft():
    found, drafted = verdict(0.0, count=500)
    assert found.accepted.all()
    assert torch.equal(found.values, drafted)


def test_a_high_temperature_returns_the_draft():
    found, drafted = verdict(1.5, count=2000, temperature=42.0)
    assert found.accepted.float().mean() > 0.9
    assert abs(float(found.values[..., 0].mean()) - float(drafted[..., 0].mean())) < 0.2


def test_without_a_kept_proposal_a_value_of_the_model_is_taken():
    found, drafted = verdict(0.3, count=4000, trials=1)
    assert found.capped.any()
    assert not (found.capped & found.accepted).any()
    assert (found.values[found.capped] != drafted[found.capped]).all()
    assert torch.equal(found.values[found.accepted], drafted[found.accepted])


def test_a_row_is_the_same_alone():
    rng = torch.Generator().manual_seed(0)
    means = torch.randn(2, 2, 5, 3, generator=rng)
    log_std, places = torch.full((2, 5, 3), math.log(0.7)), torch.arange(5).expand(2, 5)
    laws = [Gaussian(mean, log_std) for mean in means]
    drafted = means[1] + 0.7 * torch.randn(2, 5, 3, generator=rng)
    both = verify_values(*laws, drafted, PositionNoise([4, 9]), places)
    laws = [Gaussian(law.mean[1:], law.log_std[1:]) for law in laws]
    alone = verify_values(*laws, drafted[1:], PositionNoise([9]), places[1:])
    assert torch.equal(both.values[1:], alone.values)
    assert 0 < int(both.accepted.sum()) < 10


def test_ratios_do_not_overflow():
    narrow = torch.full((1, 4), math.log(1e-3))
    far, near = Gaussian(torch.full((1, 4), 50.0), narrow), Gaussian(torch.zeros(1, 4), narrow)
    found = log_ratio(torch.zeros(1, 4), far, near)
    assert found.isfinite().all()
    assert float(found) == pytest.approx(-0.5 * 4 * (50 / 1e-3) ** 2, rel=1e-5)


@pytest.mark.parametrize("options", [{"temperature": 0.5}, {"trials": 0}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        verdict(0.1, count=2, **options)
