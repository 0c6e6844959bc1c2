"""Cross-entropy whose targets weigh by the step of their image: coarse maps more than fine ones, or the other
way round.

Scale-wise weighted tuning of a subject: Fine-Tuning Visual Autoregressive Models for
Subject-Driven Generation, arXiv 2504.02612 (ARBooth). Coarse maps carry identity, while fine ones have most
of the codes and would outweigh them. The weights are not normalised. Test:
tests/unified/objectives/test_scale_weighted.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unified.finite import check_number
from unified.objectives.objective import Objective, ObjectiveOutput
from unified.objectives.scores import Scores


@dataclass(frozen=True, kw_only=True)
class ScaleWeightedConfig:
    """`weights` of the first steps of an image, at least 0; `rest`: the weight of all later ones (published:
    1 for eight maps, then 0.5). Text and actions weigh 1."""

    weights: tuple[float, ...] = (1.0,) * 8
    rest: float = 0.5

    def __post_init__(self) -> None:
        for weight in (*self.weights, self.rest):
            check_number("a weight of a scale", weight, 0)


class ScaleWeighted(Objective):
    """`CrossEntropy` with every code's loss times the weight of its step."""

    config_class = ScaleWeightedConfig

    def __init__(self, config: ScaleWeightedConfig | None = None) -> None:
        self.config = config or ScaleWeightedConfig()

    def loss(self, policy: Scores, reference: Scores | None, batch: Mapping[str, Any]) -> ObjectiveOutput:
        factors = by_step(policy.step, self.config.weights, self.config.rest).to(policy.log_probs)
        nll = -policy.log_probs * policy.weights
        logs = {"loss_unweighted": (nll.sum() / batch["rows"]).detach()}
        return ObjectiveOutput(loss=(nll * factors).sum() / batch["rows"], logs=logs)


def by_step(step: Tensor, weights: tuple[float, ...], rest: float) -> Tensor:
    """The weight of each target, of the number of its step [...] (-1: no image, weight 1)."""
    table = torch.tensor([1.0, *weights, rest], device=step.device)
    return table[(step + 1).clamp(max=len(weights) + 1)]
