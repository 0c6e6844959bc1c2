"""VARiant: one set of weights learns to write images at several depths (supernet training).

A step trains, with probability p, a subnet: the bridge zone with all layers, the flexible zone with d of
them, d drawn uniformly from a set. Otherwise it trains the full network. p is 0.2 at first, rises linearly to
1 and stays there; every layer keeps its gradient, since the bridge zone runs them all. The loss is the
cross-entropy of one pass in which each map runs its own layers.

Source: VARiant (arXiv 2511.16546): phases of 5, 15 and 5 to 15 epochs, AdamW with a learning rate of 1e-6 for
2.0 billion weights (1 to 5 % of that of pretraining for small models). How d is drawn is not said there; here
uniformly, once for each optimiser step. `tests/unified/objectives/test_variant.py` holds the schedule and the
draws, and lets a tiny model learn at two depths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from unified.depth.variant import VARiant, VARiantConfig
from unified.finite import check_tree
from unified.objectives.cross_entropy import CrossEntropy
from unified.objectives.objective import Objective, ObjectiveOutput, Progress
from unified.objectives.scores import Scores


@dataclass(frozen=True, kw_only=True)
class SupernetConfig:
    """`depths`: the numbers of layers d to draw from (published: 16, 8, 4 and 2 of 30). `bridge` and `unit`:
    the bridge zone, as in `VARiantConfig`. `rate`: p at first. `rise` and `full`: the shares of training at
    which p begins to rise, and at which it is 1."""

    depths: Sequence[int] = (2,)
    bridge: float = 6
    unit: str = "steps"
    rate: float = 0.2
    rise: float = 0.2
    full: float = 0.8

    def __post_init__(self) -> None:
        check_tree(self)
        if not self.depths:
            raise ValueError("depths must name at least one number of layers")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate is a probability from 0 to 1, got {self.rate}")
        if not 0 <= self.rise <= self.full:
            raise ValueError(f"p rises from a share of training to a later one, got {self.rise}, {self.full}")
        for depth in self.depths:
            VARiantConfig(layers=depth, bridge=self.bridge, unit=self.unit)


class Supernet(Objective):
    """Cross-entropy at depths that are drawn from the seed and the step: all micro-batches and processes of a
    step train the same network, and a resumed run the same ones. Logs the share of steps that trained a
    `subnet`."""

    config_class = SupernetConfig

    def __init__(self, config: SupernetConfig | None = None) -> None:
        self.config = config or SupernetConfig()
        self.likelihood = CrossEntropy()

    def probability(self, share: float) -> float:
        """p after this share of training."""
        rate, rise, full = self.config.rate, self.config.rise, self.config.full
        if share < rise:
            return rate
        return 1.0 if share >= full else rate + (1 - rate) * (share - rise) / (full - rise)

    def depth(self, progress: Progress) -> VARiant | None:
        """The subnet of a step; None for the full network."""
        rng = np.random.default_rng([progress.seed % 2**64, progress.step])
        if rng.random() >= self.probability(progress.share):
            return None
        layers = self.config.depths[int(rng.integers(len(self.config.depths)))]
        return VARiant(VARiantConfig(layers=layers, bridge=self.config.bridge, unit=self.config.unit))

    def prepare(self, batch: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        depth = self.depth(progress)
        return batch if depth is None else {**batch, "options": {**batch.get("options", {}), "depth": depth}}

    def loss(self, policy: Scores, reference: Scores | None, batch: Mapping[str, Any]) -> ObjectiveOutput:
        loss = self.likelihood.loss(policy, None, batch).loss
        drawn = "depth" in batch.get("options", {})
        return ObjectiveOutput(loss=loss, logs={"subnet": torch.tensor(float(drawn), device=loss.device)})
