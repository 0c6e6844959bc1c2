"""A mixture of training tasks, one for each batch: the next code, all codes after a cut, or random codes.

TokenUnify (arXiv 2405.16847): each task leaves another view of an image to be predicted. A task is an order
and the slots whose codes are targets, so that the model, its likelihood and its cache are those of any order.
The draw depends on (seed, step) alone: all parts of a batch have the same task, and a resumed run the same
ones.
Every task's weights add up to 1, since otherwise a task of hundreds of targets would outweigh one of a few.
Test: tests/unified/orders/test_task_mixture.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unified.finite import check_number
from unified.orders.plan import Plan
from unified.orders.raster import raster
from unified.orders.rest import cut_at, rest
from unified.orders.shapes import Shape, area

NEXT, FOLLOWING, RANDOM = "next", "following", "random"
PERMUTATIONS = 64  # the largest number that every vocabulary can spell


@dataclass(frozen=True, kw_only=True)
class TaskMixtureConfig:
    """Probabilities of the tasks, in proportion. `ratio`: the share of codes that `random` hides. `period`:
    if not 0, tasks of a positive probability take turns of so many steps in place of being drawn."""

    next: float = 1.0
    following: float = 1.0
    random: float = 1.0
    ratio: float = 0.4
    period: int = 0

    def __post_init__(self) -> None:
        for name in (NEXT, FOLLOWING, RANDOM):
            check_number(name, getattr(self, name), 0)
        if not self.next + self.following + self.random > 0:
            raise ValueError("at least one task needs a positive probability")
        if not 0 < self.ratio < 1 or self.period < 0:
            raise ValueError(
                f"ratio must lie between 0 and 1, and period must not be negative, got {self.ratio} and "
                f"{self.period}"
            )


@dataclass(frozen=True, eq=False)
class Task:
    """`name` of the task; the `order` and its `data` that an image of the batch is written in; `plan`, which
    is of these; `weights` [T] float32 of the slots' losses, of sum 1, 0 where a code is shown."""

    name: str
    order: str
    data: tuple[int, ...]
    plan: Plan
    weights: Tensor


class TaskMixture:
    """Draws the task of every step of training."""

    def __init__(self, config: TaskMixtureConfig | None = None) -> None:
        self.config = config or TaskMixtureConfig()
        shares = {name: getattr(self.config, name) for name in (NEXT, FOLLOWING, RANDOM)}
        self.shares = {name: share for name, share in shares.items() if share > 0}

    def name(self, step: int, seed: int = 0) -> str:
        """Which task a step of training has."""
        names = list(self.shares)
        if self.config.period:
            return names[step // self.config.period % len(names)]
        shares = np.array(list(self.shares.values()))
        return str(_generator(seed, step).choice(names, p=shares / shares.sum()))

    def draw(self, shape: Shape, step: int, seed: int = 0) -> Task:
        """The task of a step for images of one map. ValueError for a map of a single code."""
        length, name, rng = area((shape,)), self.name(step, seed), _generator(seed, step, 1)
        if length < 2:
            raise ValueError(f"a task needs a map of at least two codes, got {shape}")
        if name == NEXT:
            return Task(name, "raster", (), raster((shape,)), torch.full((length,), 1 / length))
        count = int(rng.integers(1, length))
        permutation: tuple[int, ...] = ()
        if name == RANDOM:
            count = min(max(length - int(length * self.config.ratio), 1), length - 1)
            permutation = (int(rng.integers(1, PERMUTATIONS + 1)),)
        data = (*cut_at(shape, count), *permutation)
        plan = rest((shape,), data=data)
        targets = plan.labels == count
        return Task(name, "rest", data, plan, targets / targets.sum())


def _generator(*numbers: int) -> np.random.Generator:
    return np.random.default_rng([number % 2**64 for number in numbers])
