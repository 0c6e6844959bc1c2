"""Self-autoregressive refinement: a model that writes images step by step learns to go on from its own codes.

    loss = cross-entropy(true codes | true codes before) + gamma cross-entropy(y_{k+1} | y_k, ...)
with y_k the codes of step k that the model itself finds likeliest given the true codes before (stagger-scale
rollout). The second pass is fed y in place of the true codes, so it sees errors of exactly one step, and its
targets are y too, not the true codes, which may not follow from them (contrastive student forcing); y is
detached. Zhou et al., "Rethinking training dynamics in scale-wise autoregressive generation", arXiv
2512.06421. The release trains the last transition alone, without coarser maps in its context
(`unified/checkpoints/sar_verify.py`); here all maps are in context, and the first step, which is fed no code,
is no target of the second pass. Orders that feed a step more than the step before it (residual, raster) are
fed predictions alone. Tests: tests/unified/objectives/test_self_refinement.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from unified.finite import check_number
from unified.layout.layout import IGNORED, Layout
from unified.objectives.cross_entropy import CrossEntropy
from unified.objectives.objective import Objective, ObjectiveOutput
from unified.objectives.scores import Scores

ROLLED_OUT = "rolled_out"  # scores of the second pass, in a batch
TRANSITIONS = ("all", "last")


@dataclass(frozen=True, kw_only=True)
class SelfRefinementConfig:
    """`gamma`: weight of the second pass (published: 0.01; 0 is off). `transitions`: which steps it learns:
    "all" but the first, or the "last"."""

    gamma: float = 0.01
    transitions: Literal["all", "last"] = "all"

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, 0)
        if self.transitions not in TRANSITIONS:
            raise ValueError(f"transitions must be one of {', '.join(TRANSITIONS)}, got {self.transitions!r}")


class SelfRefinement(Objective):
    """For heads of one symbol. Logs the loss of the second pass (`student`), weighted as the first."""

    config_class = SelfRefinementConfig

    def __init__(self, config: SelfRefinementConfig | None = None) -> None:
        self.config = config or SelfRefinementConfig()
        self.likelihood = CrossEntropy()

    def rolled_out(self, model: Callable[..., Any], batch: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The batch of the second pass; None where there is none."""
        if not self.config.gamma:
            return None
        ids, layout = batch["input_ids"], batch["layout"]
        own = staggered(model, ids, layout, batch.get("options", {}))
        learned = self._learned(layout) & (batch["labels"] != IGNORED)
        return {
            **batch,
            "input_ids": own,
            "labels": own.masked_fill(~learned, IGNORED),
            "weights": batch["weights"] * learned,
        }

    def _learned(self, layout: Layout) -> Tensor:
        """[B, T] bool: codes that the second pass predicts."""
        if self.config.transitions == "all":
            return layout.step > 0
        found = torch.zeros_like(layout.predicted)
        for group in layout.writes:
            last = group.plan.labels.to(found.device) == group.plan.labels.max()
            places = group.slots()[:, last]
            found[group.rows[:, None].expand_as(places), places] = len(group.plan.steps) > 1
        return found

    def loss(self, policy: Scores, reference: Scores | None, batch: Mapping[str, Any]) -> ObjectiveOutput:
        teacher = self.likelihood.loss(policy, None, batch).loss
        if ROLLED_OUT not in batch:
            return ObjectiveOutput(loss=teacher, logs={"student": torch.zeros_like(teacher).detach()})
        student = self.likelihood.loss(batch[ROLLED_OUT], None, batch).loss
        loss = refined(teacher, student, self.config.gamma)
        return ObjectiveOutput(loss=loss, logs={"student": student.detach()})


def refined(teacher: Tensor, student: Tensor, gamma: float) -> Tensor:
    """The loss of both passes."""
    return teacher + gamma * student


@torch.no_grad()
def staggered(
    model: Callable[..., Any], ids: Tensor, layout: Layout, options: Mapping[str, Any] | None = None
) -> Tensor:
    """Ids [B, T] with every code that is written replaced by the likeliest one given the codes of earlier
    steps. `model`: as `UnifiedModel.forward`, with further arguments `options`. ValueError for a head without
    a table of logits."""
    logits = model(ids, layout=layout, return_logits=True, **(options or {})).logits
    if logits is None:
        raise ValueError("self-refinement needs a head of one symbol: this model's codes have several")
    return torch.where(layout.step >= 0, logits.argmax(dim=-1), ids)
