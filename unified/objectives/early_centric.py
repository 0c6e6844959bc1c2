"""Cross-entropy of the first steps of images alone, of how many being drawn anew at every step of training.

ECM, arXiv 2510.05610: coarse maps decide what an image shows, finer ones render it, so that a control is
learnt mostly from the former. The number of steps j of K has probability in proportion to n_j^-power, n_j
being the targets of step j, and with probability `full` all steps are trained; the paper's own distribution
is not known. What is drawn depends on (seed, step) alone. Later targets have no loss here; leaving their
positions out of the pass as well, which is what makes training cheaper, is a matter of the data. Test:
tests/unified/objectives/test_early_centric.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from unified.finite import check_number
from unified.objectives.objective import Objective, ObjectiveOutput, Progress
from unified.objectives.scores import Scores


@dataclass(frozen=True, kw_only=True)
class EarlyCentricConfig:
    """`power` of the targets of a step, at least 0; `full`: the probability of all steps, from 0 to 1."""

    power: float = 0.5
    full: float = 0.25

    def __post_init__(self) -> None:
        check_number("power", self.power, 0)
        check_number("full", self.full, 0, 1)


class EarlyCentric(Objective):
    """The weights of what is left are scaled so that they add up to those of all, so that a step of training
    has the same size whatever is drawn. Logs how many steps were trained (`steps`)."""

    config_class = EarlyCentricConfig

    def __init__(self, config: EarlyCentricConfig | None = None) -> None:
        self.config = config or EarlyCentricConfig()

    def prepare(self, batch: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        rng = np.random.default_rng([progress.seed % 2**64, progress.step])
        return {**batch, "drawn": tuple(rng.random(2).tolist())}

    def steps(self, counts: list[int], drawn: tuple[float, float]) -> int:
        """How many steps are trained, of targets by step `counts` and two numbers from [0, 1)."""
        if drawn[0] < self.config.full or not counts:
            return len(counts)
        shares = np.array([max(count, 1) ** -self.config.power for count in counts]).cumsum()
        return int((shares <= drawn[1] * shares[-1]).sum()) + 1

    def loss(self, policy: Scores, reference: Scores | None, batch: Mapping[str, Any]) -> ObjectiveOutput:
        step = policy.step.masked_fill(~policy.targets, -1)
        counts = torch.bincount(step[step >= 0], minlength=0).tolist()
        steps = self.steps(counts, batch["drawn"])
        kept = policy.weights * (policy.step < steps)
        weights = kept * (policy.weights.sum() / kept.sum().clamp(min=1e-9))
        logs = {"steps": torch.tensor(float(steps), device=kept.device)}
        return ObjectiveOutput(loss=-(policy.log_probs * weights).sum() / batch["rows"], logs=logs)
