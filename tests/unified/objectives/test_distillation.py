"""Distillation of a prior: the estimate has the exact mean, and the divergence is the sum over outcomes."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unified.objectives import PriorDistillation, PriorDistillationConfig
from unified.objectives.distillation import divergence

sys.path.insert(0, str(Path(__file__).parent))
from test_scale_weighted import scores


def logits(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_divergence_is_the_sum_over_all_codes():
    """Of two bits: over their four values."""
    student, teacher = logits(0, 5, 2, 2), logits(1, 5, 2, 2)

    def joint(given):
        both = given.log_softmax(-1)
        return (both[:, 0, :, None] + both[:, 1, None, :]).flatten(1)

    mine, other = joint(student), joint(teacher)
    want = (other.exp() * (other - mine)).sum(1)
    assert torch.allclose(divergence(student, teacher), want, atol=1e-6)


def test_flat_is_one_softmax_over_everything():
    student, teacher = logits(0, 5, 3, 2), logits(1, 5, 3, 2)
    mine, other = ((x.flatten(1) / 2).log_softmax(-1) for x in (student, teacher))
    want = (other.exp() * (other - mine)).sum(1)
    assert torch.allclose(divergence(student, teacher, 2.0, flat=True), want, atol=1e-6)
    assert torch.equal(divergence(teacher, teacher, flat=True), torch.zeros(5))


def test_the_estimate_has_the_mean_of_the_divergence_and_its_gradient():
    """Every code of a vocabulary once, weighted by the reference's probability."""
    student, teacher = logits(0, 1, 7).requires_grad_(), logits(1, 1, 7)
    mine, other = student.log_softmax(-1), teacher.log_softmax(-1)
    policy = replace(scores([0] * 7), log_probs=mine, weights=other.exp())
    reference = replace(policy, log_probs=other)
    found = PriorDistillation(PriorDistillationConfig(weight=2.0)).loss(policy, reference, {"rows": 1})
    exact = divergence(student[:, None], teacher[:, None]).sum()
    assert torch.allclose(found.loss, 2 * exact, atol=1e-5)
    assert torch.allclose(found.logs["divergence"], exact.detach(), atol=1e-6)
    gradients = [torch.autograd.grad(loss, student, retain_graph=True)[0] for loss in (found.loss, 2 * exact)]
    assert torch.allclose(*gradients, atol=1e-5)


def test_the_reference_itself_costs_nothing():
    given = scores([0, 1, 2])
    assert PriorDistillation().loss(given, given, {"rows": 1}).loss == 0
    with pytest.raises(ValueError, match="needs scores of a reference"):
        PriorDistillation().loss(given, None, {"rows": 1})
    with pytest.raises(ValueError, match="weight must be positive"):
        PriorDistillationConfig(weight=0.0)
