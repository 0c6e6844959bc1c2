"""The two losses of ARBooth on the logits of Infinity, and what the frozen model draws for the second.

Source: jiwoogit/ARBooth (MIT), arXiv 2504.02612. As released, each loss has a step of the optimiser of its
own; the divergence is of one softmax over all logits of a position; and the frozen model draws without
history: every map sees itself alone, at the first rotary positions (`AsReleased`). Forms for any model are
`unified.objectives.scale_weighted` and `unified.objectives.distillation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.backbone.layer_pass import Pass
from unified.checkpoints.generation import GREEDY
from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_forks import AsReleased
from unified.checkpoints.next_scale import block_causal
from unified.decoding.noise import Noise, PositionNoise
from unified.decoding.sampling import Sampler
from unified.objectives.distillation import divergence
from unified.objectives.scale_weighted import by_step
from unified.orders import plan_for
from unified.orders.shapes import Shapes, area


@dataclass(frozen=True, kw_only=True)
class SubjectLoss:
    """`weights` of the first maps, `rest` of later ones (published: eight of 1, then 0.5, whatever the
    schedule). `total`: bits of a token are summed, not averaged. `smoothing` of the labels."""

    weights: tuple[float, ...] = (1.0,) * 8
    rest: float = 0.5
    total: bool = False
    smoothing: float = 0.0

    def __call__(self, logits: Tensor, bits: Tensor, shapes: Shapes) -> Tensor:
        """logits [B, L, S, 2], bits [B, L, S] -> scalar: the weighted sum over tokens by L, the mean over
        rows."""
        losses = _bit_losses(logits, bits, self.smoothing)
        losses = losses.sum(dim=-1) if self.total else losses.mean(dim=-1)  # [B, L]
        weights = by_step(map_numbers(shapes), self.weights, self.rest).to(losses)
        return (losses * weights).mean(dim=-1).mean()


@dataclass(frozen=True, kw_only=True)
class PriorLoss:
    """`weight` of the loss; `temperature` of both sides; `hard`: cross-entropy of the teacher's likelier bits
    (with label `smoothing`) in place of the divergence; `flat`: see `divergence`."""

    weight: float = 0.5
    temperature: float = 1.0
    hard: bool = False
    smoothing: float = 0.0
    flat: bool = True

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        """logits [B, L, S, 2] of both -> scalar: the mean over tokens and rows."""
        if self.hard:
            losses = _bit_losses(student, teacher.argmax(dim=-1), self.smoothing).mean(dim=-1)
        else:
            losses = divergence(student, teacher, self.temperature, flat=self.flat)
        return self.weight * losses.mean(dim=-1).mean()


def map_numbers(shapes: Shapes) -> Tensor:
    """[L]: the number of the map of each slot."""
    return torch.cat([torch.full((area((shape,)),), number) for number, shape in enumerate(shapes)])


def _bit_losses(logits: Tensor, bits: Tensor, smoothing: float) -> Tensor:
    losses = F.cross_entropy(
        logits.flatten(0, -2), bits.flatten(), reduction="none", label_smoothing=smoothing
    )
    return losses.view(bits.shape)


# What the frozen model draws --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Rollout:
    """`inputs` [B, L, D] that all slots were fed, without levels; `logits` [B, L, S, 2]; `bits` [B, L, S]."""

    inputs: Tensor
    logits: Tensor
    bits: Tensor


@torch.no_grad()
def rollout(
    teacher: Infinity,
    texts: Sequence[Tensor],
    shapes: Shapes,
    sampler: Sampler = GREEDY,
    noise: Noise | None = None,
) -> Rollout:
    """Draw images [B] of texts [n, Ct] as the released code does: each map by itself."""
    model, plan = AsReleased.of(teacher), plan_for(teacher.order, shapes)
    condition, feed = model.condition(texts), model.feed(shapes)
    noise = noise or PositionNoise(list(range(len(texts))))
    levels, maps = model.positions(shapes), plan.map_slices
    values = torch.zeros(len(texts), plan.length, model.grid.token_bits, device=model.device)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for step, (shape, slots) in enumerate(zip(shapes, maps, strict=True)):
        if step:
            inputs = model.later_inputs(feed.inputs(values, plan.steps[step].run))
        else:
            inputs = model.first_inputs(condition)
        index = block_causal((shape,)).map(lambda field: field.expand(len(texts), -1))
        run = Pass(index, inputs.new_zeros(3, 1, 1), plan=plan, step=step, condition=condition)
        predicted = model.head.distribution(model.hidden(inputs + levels[:, slots], run)[0])
        places = torch.arange(slots.start, slots.stop).expand(len(texts), -1)
        bits = predicted.sample(noise, places, sampler).values
        values[:, slots] = model.grid.vectors(bits)
        found.append((inputs, predicted.logits, bits))
    return Rollout(*(torch.cat(parts, dim=1) for parts in zip(*found, strict=True)))


def held_to(
    student: Infinity, teacher: Infinity, texts: Sequence[Tensor], drawn: Rollout, shapes: Shapes
) -> Tensor:
    """Logits [B, L, S, 2] of the student in one causal pass over what the teacher was fed, under what the
    teacher makes of the texts."""
    condition = student.conditioned(*teacher.text(texts))
    return student.logits(drawn.inputs, condition, shapes)
