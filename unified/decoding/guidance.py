"""Classifier-free guidance: logits (1 + t) * conditional - t * null, with t a function of the step.

Both branches run in one pass. Where t is 0 at every step no null branch is computed at all. Text has visual
contrastive decoding (`contrasted`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from unified.finite import check_number
from unified.heads.distribution import Distribution, first_rows
from unified.orders import Plan

LARGEST = 1e30  # scales beyond it leave the range of float32
PLAUSIBLE = 0.1  # share of the largest probability below which contrastive decoding excludes a token


class Guidance(Protocol):
    def weight(self, plan: Plan, step: int) -> float:
        """t at this step; 0 is off."""
        ...

    def uses_null(self, plan: Plan, step: int) -> bool:
        """Whether the null branch has to run at this step: by default where t is not 0. Guidance that acts
        on hidden states needs it though logits are left as they are."""
        return self.weight(plan, step) != 0

    def predicted(
        self, found: Distribution, states: Sequence[Tensor], plan: Plan, step: int, rows: int
    ) -> Distribution:
        """What codes are drawn from, of what the model predicts (`found`) in `rows` rows and, where the
        weight is not 0, in as many of the null branch after them. `states`: of each head [R, n, D]."""
        weight = self.weight(plan, step)
        return guide(found, weight, rows) if weight else found


@dataclass(frozen=True)
class Constant(Guidance):
    """t = scale - 1 at every step: null + scale * (conditional - null). Scale 1 is off (as LlamaGen)."""

    scale: float

    def __post_init__(self) -> None:
        check_scales(self.scale)

    def weight(self, plan: Plan, step: int) -> float:
        return self.scale - 1


@dataclass(frozen=True)
class Ramp(Guidance):
    """t = scale * step / last step, from 0 at the first (VAR). A plan of one step gets t = 0."""

    scale: float

    def __post_init__(self) -> None:
        check_scales(self.scale)

    def weight(self, plan: Plan, step: int) -> float:
        return self.scale * step / max(len(plan.steps) - 1, 1)


@dataclass(frozen=True)
class CappedRamp(Guidance):
    """FlexVAR: t = scale * step / min(last step, 9), and t = scale for maps with a side above `max_side`."""

    scale: float
    max_side: int = 16

    def __post_init__(self) -> None:
        check_scales(self.scale)

    def weight(self, plan: Plan, step: int) -> float:
        if max(plan.step_shape(step)) > self.max_side:
            return self.scale
        return self.scale * step / max(min(len(plan.steps) - 1, 9), 1)


@dataclass(frozen=True)
class PerStep(Guidance):
    """t = scales[step] - 1: one scale for each step, 1 being off (Infinity, arXiv 2412.04431)."""

    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        check_scales(*self.scales)

    def weight(self, plan: Plan, step: int) -> float:
        if len(self.scales) != len(plan.steps):
            raise ValueError(
                f"a plan of {len(plan.steps)} steps needs as many scales, got {len(self.scales)}"
            )
        return self.scales[step] - 1


def check_scales(*scales: float) -> None:
    """ValueError unless all guidance scales are finite numbers, in float32 too."""
    for scale in scales:
        check_number("a guidance scale", scale, -LARGEST, LARGEST)


def check_weights(guidance: Guidance | None, plan: Plan) -> None:
    """ValueError unless the weight of every step of a plan is a finite number."""
    for step in range(len(plan.steps) if guidance is not None else 0):
        check_number(f"the weight of guidance at step {step}", guidance.weight(plan, step))  # type: ignore[union-attr]


def needs_null(guidance: Guidance | None, plan: Plan) -> bool:
    """Whether any step of a plan uses the null branch."""
    return guidance is not None and any(guidance.uses_null(plan, step) for step in range(len(plan.steps)))


def guide(predicted: Distribution, weight: float, rows: int) -> Distribution:
    """Guided distribution of `rows` rows from that of 2 * `rows` rows, conditional ones first."""
    return first_rows(predicted, 0, rows).guided(first_rows(predicted, rows, 2 * rows), weight)


def check_contrast(contrast: float) -> None:
    """ValueError unless a contrast weight is a finite number of at least 0."""
    check_number("contrast", contrast, 0)


def contrasted(logits: Tensor, blind: Tensor, weight: float | Tensor, plausible: float = PLAUSIBLE) -> Tensor:
    """Visual contrastive decoding (arXiv 2311.16922): (1 + weight) * logits - weight * blind, the logits
    [..., V] of text with and without the images; -inf for tokens below `plausible` times the largest
    probability. This reduces the prior of the language model, such as for attributes rarely seen together in
    training. `weight`: a number, or [..., 1]."""
    likely = logits.log_softmax(dim=-1)
    found = likely + weight * (likely - blind.log_softmax(dim=-1))
    lowest = math.log(plausible) if plausible else float("-inf")
    left_out = (likely < likely.amax(dim=-1, keepdim=True) + lowest) | likely.isneginf()
    return found.masked_fill(left_out, float("-inf"))
