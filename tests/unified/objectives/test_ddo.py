"""Direct discriminative optimisation by its properties, and two rounds of self-play on a toy distribution."""

import math

import pytest
import torch

from unified.objectives import DDO, DDOConfig, Scores


def scores(log_probs, targets=None) -> Scores:
    """Rows of one sample each."""
    targets = torch.ones_like(log_probs, dtype=torch.bool) if targets is None else targets
    zeros = torch.zeros_like(targets, dtype=torch.long)
    sums = log_probs.sum(1, keepdim=True)
    steps = sums[..., None]
    return Scores(
        log_probs=log_probs,
        targets=targets,
        weights=targets.float(),
        segment_sums=sums,
        step_sums=steps,
        sample=zeros,
        segment=zeros,
        step=zeros,
    )


@pytest.mark.parametrize("alpha", [0.5, 10.0])
def test_at_the_start_of_a_round_the_loss_is_ln_2_by_one_plus_alpha(alpha):
    same = scores(-torch.rand(6, 3) * 100)
    found = DDO(DDOConfig(alpha=alpha)).loss(same, same, {})
    assert float(found.loss) == pytest.approx((1 + alpha) * math.log(2), rel=1e-6)
    assert float(found.logs["ratio_real"]) == float(found.logs["ratio_fake"]) == 0


def test_the_formula():
    torch.manual_seed(0)
    policy, reference = -torch.rand(4, 3), -torch.rand(4, 3)
    ratios = (policy - reference).sum(1)
    real = torch.sigmoid(0.3 * ratios[0::2]).log().mean()
    fake = (1 - torch.sigmoid(0.3 * ratios[1::2])).log().mean()
    found = DDO(DDOConfig(beta=0.3, alpha=2.0)).loss(scores(policy), scores(reference), {})
    torch.testing.assert_close(found.loss, -real - 2 * fake)
    assert float(found.logs["nll_real"]) == pytest.approx(float(-policy[0::2].mean()), rel=1e-5)


def test_gradients_raise_the_data_and_lower_the_fakes():
    log_probs = -torch.ones(4, 3).requires_grad_()
    log_probs.retain_grad()
    DDO(DDOConfig(beta=0.1, alpha=5.0)).loss(
        scores(log_probs), scores(log_probs.detach()), {}
    ).loss.backward()
    real, fake = log_probs.grad[0::2], log_probs.grad[1::2]
    torch.testing.assert_close(real, torch.full_like(real, -0.1 / 4))
    torch.testing.assert_close(fake, torch.full_like(fake, 5 * 0.1 / 4))


def test_samples_without_targets_count_for_nothing():
    policy, reference = -torch.rand(4, 3), -torch.rand(4, 3)
    targets = torch.ones(4, 3, dtype=torch.bool)
    targets[3] = False
    found = DDO().loss(scores(policy, targets), scores(reference, targets), {})
    alone = DDO().loss(scores(policy[:2]), scores(reference[:2]), {})
    assert float(found.logs["ratio_fake"]) == pytest.approx(float(alone.logs["ratio_fake"]))
    assert float(found.logs["ratio_real"]) != pytest.approx(float(alone.logs["ratio_real"]))


def test_beta_may_be_scaled_to_the_number_of_targets():
    policy, reference = scores(-torch.rand(2, 3)), scores(-torch.rand(2, 3))
    longer = [scores(found.log_probs.repeat(1, 4)) for found in (policy, reference)]
    objective = DDO(DDOConfig(beta=0.5, length=3))
    torch.testing.assert_close(
        objective.loss(*longer, {}).loss, DDO(DDOConfig(beta=0.5)).loss(policy, reference, {}).loss
    )


def test_saturation_is_logged():
    policy, reference = torch.zeros(4, 1), torch.tensor([[-500.0], [0.0], [-3.0], [0.0]])
    assert (
        float(DDO(DDOConfig(beta=0.02)).loss(scores(policy), scores(reference), {}).logs["saturated"]) == 0.25
    )


@pytest.mark.parametrize("options", [{"beta": 0}, {"alpha": -1}, {"length": -1}])
def test_bad_options_and_rows_are_refused(options):
    with pytest.raises(ValueError, match="beta must be positive, alpha and length not negative"):
        DDOConfig(**options)
    with pytest.raises(ValueError, match="got 3 rows and a reference"):
        DDO().loss(scores(torch.zeros(3, 1)), scores(torch.zeros(3, 1)), {})
    with pytest.raises(ValueError, match="no reference"):
        DDO().loss(scores(torch.zeros(2, 1)), None, {})


def test_a_toy_distribution_comes_closer_to_the_data_in_every_round():
    """16 outcomes; data that the start is far from; batches of samples of the data and of the round's
    reference."""
    rng = torch.Generator().manual_seed(0)
    data = torch.randn(16, generator=rng).mul(2).softmax(0)
    table = (data.log() * 0.3).log_softmax(0)  # over-dispersed, as by limited capacity
    distances = [float((table.exp() - data).abs().sum() / 2)]
    for _ in range(2):
        table = a_round(table.detach(), data, DDOConfig(beta=1.0, alpha=1.0), rng)
        distances.append(float((table.exp() - data).abs().sum() / 2))
    assert distances[1] < 0.5 * distances[0]
    assert distances[2] < 0.08


def test_a_small_beta_overshoots_the_data_as_guidance_does():
    rng = torch.Generator().manual_seed(0)
    data = torch.tensor([0.4, 0.3, 0.2, 0.1])
    start = torch.tensor([0.25] * 4).log()
    found = a_round(start, data, DDOConfig(beta=0.5, alpha=1.0), rng, steps=600).exp()
    wanted = data**2 / (data**2).sum()  # reference^(1 - 1/beta) data^(1/beta)
    torch.testing.assert_close(found, wanted, atol=0.03, rtol=0)


def a_round(reference, data, config, rng, steps=300, batch=512):
    """Log-probabilities after a round that begins with, and takes its fakes from, `reference`."""
    table = reference.clone().requires_grad_()
    optimiser = torch.optim.Adam([table], lr=0.03)
    for _ in range(steps):
        rows = torch.stack(
            [p.multinomial(batch, replacement=True, generator=rng) for p in (data, reference.exp())], dim=1
        ).flatten()  # real, fake, real, fake, ...
        policy, frozen = (found.log_softmax(0)[rows][:, None] for found in (table, reference))
        loss = DDO(config).loss(scores(policy), scores(frozen), {}).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return table.detach().log_softmax(0)
