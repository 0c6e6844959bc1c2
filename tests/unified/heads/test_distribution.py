"""Distributions: exact against plain definitions, for every registered head."""

import pytest
import torch
from torch.distributions import Normal

from unified.decoding.guidance import guide
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.heads import CONTINUOUS_HEADS, HEADS, Gaussian, log_prob
from unified.heads.distribution import Categorical
from unified.heads.regression import RegressionHead

PLACES = torch.arange(30).expand(2, -1)


@pytest.fixture(params=HEADS.values(), ids=HEADS.keys())
def head(request):
    torch.manual_seed(0)
    return request.param(12, 16)


@pytest.fixture(params=CONTINUOUS_HEADS.values(), ids=CONTINUOUS_HEADS.keys())
def continuous(request):
    torch.manual_seed(0)
    made = request.param(12, 3)
    for parameter in made.parameters():  # outputs start at zero
        torch.nn.init.normal_(parameter, std=0.1)
    return made.requires_grad_(False)


def test_a_table_head_gives_what_its_logits_say(head):
    hidden = torch.randn(2, 30, 12)
    found, logits = head.distribution(hidden), head.logits(hidden)
    symbols = head.to_symbols(torch.randint(16, (2, 30)))
    assert torch.equal(found.log_prob(symbols), log_prob(logits, symbols))
    noise, sampler = PositionNoise([3, 4]), Sampler(temperature=0.7, top_k=2)
    drawn, wanted = found.sample(noise, PLACES, sampler), sampler.draw(logits, noise, PLACES)
    assert torch.equal(drawn.values, wanted.symbols)
    assert torch.equal(drawn.log_probs, wanted.log_probs)


def test_guidance_and_read_outs_of_table_heads(head):
    states = torch.randn(3, 2, 30, 12)
    first, second, third = (head.distribution(state) for state in states)
    both = torch.cat([first.logits, second.logits])
    assert torch.equal(first.guided(second, 1.5).logits, guide(Categorical(both), 1.5, len(both) // 2).logits)
    mean = (first.logits + second.logits + third.logits) / 3
    torch.testing.assert_close(first.combined([second, third]).logits, mean)


def random_gaussian(seed):
    generator = torch.Generator().manual_seed(seed)
    mean, log_std = torch.randn(2, 2, 30, 3, generator=generator)
    return Gaussian(mean, log_std * 0.3)


def test_a_gaussian_has_its_density():
    gaussian, values = random_gaussian(0), torch.randn(2, 30, 3)
    wanted = Normal(gaussian.mean, gaussian.log_std.exp()).log_prob(values).sum(-1)
    torch.testing.assert_close(gaussian.log_prob(values), wanted)


def test_the_temperature_of_a_gaussian_scales_its_noise():
    one = Gaussian(torch.full((1, 20_000, 2), 3.0), torch.full((1, 20_000, 2), 0.5).log())
    noise, places = PositionNoise([1]), torch.arange(20_000)[None]
    warm, cold = (one.sample(noise, places, Sampler(temperature=t)) for t in (1.0, 0.1))
    torch.testing.assert_close(warm.values - 3, 10 * (cold.values - 3), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(warm.values[0].std(dim=0), torch.tensor([0.5, 0.5]), atol=0.01, rtol=0)
    torch.testing.assert_close(warm.log_probs, one.log_prob(warm.values))
    drawn_with = Gaussian(one.mean, torch.full_like(one.mean, 0.05).log())
    torch.testing.assert_close(cold.log_probs, drawn_with.log_prob(cold.values), atol=1e-4, rtol=1e-4)
    still = one.sample(noise, places, Sampler(temperature=0))
    assert torch.equal(still.values, one.mean)
    assert not still.log_probs.any()


def test_read_outs_of_gaussians_are_the_geometric_mean():
    """Its log-density is the mean of theirs but for a constant."""
    parts, values = [random_gaussian(seed) for seed in range(3)], torch.randn(50, 2, 30, 3)
    mean = torch.stack([part.log_prob(values) for part in parts]).mean(dim=0)
    constant = parts[0].combined(parts[1:]).log_prob(values) - mean
    torch.testing.assert_close(constant, constant[:1].expand_as(constant), atol=1e-4, rtol=1e-4)


def test_guidance_of_gaussians_with_one_variance_is_that_of_log_densities():
    one, values = random_gaussian(0), torch.randn(50, 2, 30, 3)
    null = Gaussian(random_gaussian(1).mean, one.log_std)
    guided = torch.lerp(null.log_prob(values), one.log_prob(values), 2.5)
    constant = one.guided(null, 1.5).log_prob(values) - guided
    torch.testing.assert_close(constant, constant[:1].expand_as(constant), atol=1e-3, rtol=1e-4)


def test_continuous_heads_embed_and_sample_vectors(continuous):
    assert continuous.embed(torch.randn(2, 30, 3)).shape == (2, 30, 12)
    hidden, sampler = torch.randn(2, 30, 12), Sampler()
    drawn = continuous.distribution(hidden).sample(PositionNoise([7, 8]), PLACES, sampler)
    assert drawn.values.shape == (2, 30, 3)
    assert drawn.log_probs.shape == (2, 30)
    alone = continuous.distribution(hidden[1:]).sample(PositionNoise([8]), PLACES[1:], sampler)
    torch.testing.assert_close(alone.values[0], drawn.values[1])
    with pytest.raises(ValueError, match="temperature only"):
        continuous.distribution(hidden).sample(PositionNoise([7, 8]), PLACES, Sampler(top_k=3))


def test_continuous_heads_combined_with_themselves_are_themselves(continuous):
    hidden, noise = torch.randn(2, 2, 30, 12), PositionNoise([7, 8])
    one, other = (continuous.distribution(state) for state in hidden)
    wanted = one.sample(noise, PLACES, Sampler()).values
    for same in (one.guided(one, 1.5), one.guided(other, 0.0), one.combined([one, one])):
        torch.testing.assert_close(same.sample(noise, PLACES, Sampler()).values, wanted, atol=1e-4, rtol=1e-4)
    for changed in (one.guided(other, 1.5), one.combined([other])):
        values = changed.sample(noise, PLACES, Sampler()).values
        assert float((values - wanted).abs().max()) > 1e-2


def test_the_loss_of_continuous_heads_reaches_every_parameter(continuous):
    continuous.requires_grad_(True)
    loss = continuous.loss(torch.randn(2, 30, 12), torch.randn(2, 30, 3), torch.Generator().manual_seed(0))
    assert loss.shape == (2, 30)
    loss.mean().backward()
    trained = {n: p for n, p in continuous.named_parameters() if not n.startswith("embedding")}
    assert all(float(parameter.grad.abs().max()) > 0 for parameter in trained.values())


def test_a_fixed_variance_is_squared_error():
    torch.manual_seed(0)
    head, hidden, values = RegressionHead(12, 3, std=0.5), torch.randn(4, 12), torch.randn(4, 3)
    found, generator = head.distribution(hidden), torch.Generator()
    loss = head.loss(hidden, values, generator)
    torch.testing.assert_close(loss, (found.mean - values).square().mean(-1))
    torch.testing.assert_close(found.log_prob(values), -6 * loss + found.log_prob(found.mean))
    with pytest.raises(ValueError, match="std must be positive"):
        RegressionHead(12, 3, std=0)


def test_a_variance_is_learned():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    head, truth, std = RegressionHead(4, 2), torch.randn(4, 2), torch.tensor([0.1, 0.5])
    optimizer = torch.optim.Adam(head.parameters(), lr=0.03)
    for _ in range(300):
        hidden = torch.randn(256, 4, generator=generator)
        values = hidden @ truth + std * torch.randn(256, 2, generator=generator)
        optimizer.zero_grad()
        head.loss(hidden, values, generator).mean().backward()
        optimizer.step()
    found = head.distribution(hidden)
    torch.testing.assert_close(found.mean, hidden @ truth, atol=0.2, rtol=0)
    torch.testing.assert_close(found.log_std.exp().mean(dim=0), std, rtol=0.25, atol=0)
