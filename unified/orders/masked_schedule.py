"""How many values of an image are still masked at each step of masked decoding: the cosine schedule of MAR.

Step k of K leaves floor(L cos(pi (k + 1) / (2 K))) of L values masked, at least one less than before and at
least one; the last step writes all that are left. So the first steps write one value each where the cosine
is flat, and where there are more steps than values some steps write none. Source: Li et al., arXiv
2406.11838 (LTH14/mar, MIT). Training masks a share of the values drawn from a normal distribution that is
cut off at both sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unified.finite import check_count

MEAN, DEVIATION = 1.0, 0.25  # of the share of masked values in training


@dataclass(frozen=True)
class MaskedStep:
    """`before`: values masked on entering the step; `left`: what the schedule leaves masked (at least one,
    and what guidance is told); `last`: whether all that are masked are written all the same."""

    before: int
    left: int
    last: bool

    @property
    def written(self) -> int:
        return self.before if self.last else self.before - self.left

    def scale(self, full: float, count: int) -> float:
        """A guidance scale that grows from 1 with the share of `count` values that are known after the step;
        it ends below `full`, since at least one value counts as masked."""
        return 1 + (full - 1) * (count - self.left) / count


def masked_steps(count: int, steps: int) -> list[MaskedStep]:
    """The steps in which `count` values are written. ValueError for less than one of either."""
    check_count("count", count, 1)
    check_count("steps", steps, 1)
    found, before = [], count
    for step in range(steps):
        by_cosine = math.floor(count * math.cos(math.pi / 2 * (step + 1) / steps))
        left = max(1, min(before - 1, by_cosine))
        found.append(MaskedStep(before, left, step == steps - 1))
        before = left
    return found


def first_masked(orders: Tensor, count: int) -> Tensor:
    """[B, L] bool: the values that the first `count` entries of the orders [B, L] name."""
    places = torch.zeros(orders.shape, dtype=torch.bool, device=orders.device)
    return places.scatter(1, orders[:, :count], True)


@dataclass(frozen=True, eq=False)
class MaskedRound:
    """Step `number` of masked decoding for a batch: of places [B, L] bool those not written yet (`mask`),
    those that it writes (`chosen`, equally many in every row) and those that stay masked (`left`)."""

    number: int
    step: MaskedStep
    mask: Tensor
    chosen: Tensor
    left: Tensor

    def places(self) -> Tensor:
        """[B, n]: the numbers of the places that it writes, ascending."""
        return self.chosen.nonzero()[:, 1].view(len(self.chosen), -1)

    def filled(self, values: Tensor, drawn: Tensor) -> Tensor:
        """values [B, L, C] with those that were drawn [B, n, C], or [B n, C], at the places that it
        writes."""
        return values.masked_scatter(self.chosen[..., None], drawn)


def masked_rounds(orders: Tensor, steps: int) -> Iterator[MaskedRound]:
    """The loop of masked decoding: one round for each step, also for those that write nothing (`step.written`
    is 0). orders [B, L]: permutations of which the last entries are written first."""
    mask = torch.ones(orders.shape, dtype=torch.bool, device=orders.device)
    for number, step in enumerate(masked_steps(orders.shape[1], steps)):
        left = first_masked(orders, 0 if step.last else step.left)
        yield MaskedRound(number, step, mask, mask & ~left, left)
        mask = left


def training_rate(quantile: Tensor, least: float = 0.7) -> Tensor:
    """Shares of masked values, from `least` to 1, at quantiles in [0, 1], float64: a normal distribution of
    mean 1 and deviation 0.25, cut off at both ends."""
    low, high = (
        torch.special.ndtr(torch.tensor((end - MEAN) / DEVIATION, dtype=torch.float64))
        for end in (least, 1.0)
    )
    return MEAN + DEVIATION * torch.special.ndtri(low + quantile.double() * (high - low))


def shuffled_orders(rows: int, parts: tuple[int, ...], seed: int) -> Tensor:
    """[rows, sum of parts]: for every row the numbers of each part in turn, shuffled, as NumPy's generator
    with this seed does."""
    import numpy as np

    generator = np.random.RandomState(seed)
    found = []
    for _ in range(rows):
        start, order = 0, []
        for part in parts:
            own = np.arange(start, start + part)
            generator.shuffle(own)
            order.append(own)
            start += part
        found.append(np.concatenate(order))
    return torch.from_numpy(np.stack(found))
