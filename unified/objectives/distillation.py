"""Prior distillation: a tuned model stays near the model it came from, on what that one draws itself.

ARBooth, arXiv 2504.02612: while a subject is learnt, the frozen model (or the same one with its
adapters off) draws images of the subject's class, and the tuned one is held to its distributions there.
`divergence` is exact, of logits; the objective, which sees the log-probabilities of targets alone, takes the
estimate q - 1 - log q of the same divergence, with q = p / p_reference of a target drawn from the reference:
it has the right mean and is never negative. Test: tests/unified/objectives/test_distillation.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from unified.objectives.objective import Objective, ObjectiveOutput
from unified.objectives.scores import Scores


@dataclass(frozen=True, kw_only=True)
class PriorDistillationConfig:
    """`weight` of the divergence (published: 0.5)."""

    weight: float = 0.5

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"weight must be positive, got {self.weight}")


class PriorDistillation(Objective):
    """Rows are drawn from the reference: temperature 1, no filters, no guidance. Weighted sum over the
    targets by row, as `CrossEntropy`. Logs the `divergence` in nats per unit of weight."""

    config_class = PriorDistillationConfig
    needs_reference = True

    def __init__(self, config: PriorDistillationConfig | None = None) -> None:
        self.config = config or PriorDistillationConfig()

    def loss(self, policy: Scores, reference: Scores | None, batch: Mapping[str, Any]) -> ObjectiveOutput:
        if reference is None:
            raise ValueError("prior distillation needs scores of a reference")
        log_ratio = policy.log_probs - reference.log_probs
        found = ((log_ratio.exp() - 1 - log_ratio) * policy.weights).sum()
        logs = {"divergence": (found / policy.weights.sum().clamp(min=1e-9)).detach()}
        return ObjectiveOutput(loss=self.config.weight * found / batch["rows"], logs=logs)


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0, *, flat: bool = False) -> Tensor:
    """KL(teacher || student) of logits [..., S, V], both divided by the temperature, summed over the S
    symbols: [...], in nats. `flat`: the published code's, of one softmax over all S V logits, which for a
    bitwise head is no divergence of codes."""
    if flat:
        student, teacher = (logits.flatten(-2)[..., None, :] for logits in (student, teacher))
    mine, other = ((logits / temperature).log_softmax(dim=-1) for logits in (student, teacher))
    return F.kl_div(mine, other, reduction="none", log_target=True).sum(dim=(-2, -1))
