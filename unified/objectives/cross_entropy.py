"""Cross-entropy: the negative log-likelihood of the targets, each with its weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unified.objectives.objective import Objective, ObjectiveOutput
from unified.objectives.scores import Scores


@dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig:
    """Nothing to choose: the weights of targets are the data's."""


class CrossEntropy(Objective):
    """Weighted sum over the targets by row of the micro-batch. The weights of all targets of a step add up to
    its rows (`unified.train.rows`), so the mean over rows, micro-batches and processes is the mean over
    targets."""

    config_class = CrossEntropyConfig
    needs_likelihood = False

    def __init__(self, config: CrossEntropyConfig | None = None) -> None:
        self.config = config or CrossEntropyConfig()

    def loss(self, policy: Scores, reference: Scores | None, batch: Mapping[str, Any]) -> ObjectiveOutput:
        nll = -policy.log_probs
        return ObjectiveOutput(loss=(nll * policy.weights).sum() / batch["rows"])
