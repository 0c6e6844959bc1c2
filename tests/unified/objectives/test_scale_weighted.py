"""Cross-entropy weighted by scale against the formula written out."""

from dataclasses import replace

import pytest
import torch

from unified.objectives import CrossEntropy, ScaleWeighted, ScaleWeightedConfig, Scores


def scores(step):
    step = torch.tensor([step])
    rng = torch.Generator().manual_seed(0)
    found, zeros = -torch.rand(step.shape, generator=rng), torch.zeros_like(step)
    ones = torch.ones(step.shape)
    return Scores(
        log_probs=found,
        targets=ones > 0,
        weights=ones,
        segment_sums=found,
        step_sums=found[..., None],
        sample=zeros,
        segment=zeros,
        step=step,
    )


def test_weights_go_by_step_and_text_weighs_one():
    given = scores([-1, 0, 1, 2, 5])
    made = ScaleWeighted(ScaleWeightedConfig(weights=(2.0, 3.0), rest=0.25))
    found = made.loss(given, None, {"rows": 2})
    want = -(given.log_probs * torch.tensor([1, 2, 3, 0.25, 0.25])).sum() / 2
    assert torch.allclose(found.loss, want)
    assert torch.allclose(found.logs["loss_unweighted"], -given.log_probs.sum() / 2)


def test_equal_weights_are_cross_entropy_bit_for_bit():
    given = replace(scores([-1, 0, 3]), weights=torch.tensor([[0.5, 2.0, 1.0]]))
    plain = CrossEntropy().loss(given, None, {"rows": 1}).loss
    made = ScaleWeighted(ScaleWeightedConfig(weights=(), rest=1.0))
    assert torch.equal(made.loss(given, None, {"rows": 1}).loss, plain)


@pytest.mark.parametrize("options", [{"rest": -1.0}, {"weights": (1.0, float("nan"))}])
def test_weights_must_be_finite_and_not_negative(options):
    with pytest.raises(ValueError, match="a weight of a scale"):
        ScaleWeightedConfig(**options)
