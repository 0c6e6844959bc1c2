"""The released acceptance rule for values, with its deviations from `decoding/strategies/gaussian.py`.

The ratio has a factor from the earlier denoising steps, in which variances stand the other way round than in
the last one, and is computed with plain exponentials and products in float32, so that it may be 0, infinite
or no number. A temperature flattens acceptance alone, not the residual. Values for which no proposal is kept
are 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unified.heads.diffusion import DiffusionDistribution

TRIALS = 100


@dataclass(frozen=True)
class Trajectory:
    """Of M values: the result `out`, `mean` and `std` of the last denoising step, and the sums `log_sum` of
    the logarithms of the standard deviations of all steps before it, each [M, C]."""

    out: Tensor
    mean: Tensor
    std: Tensor
    log_sum: Tensor

    def __getitem__(self, rows: Tensor) -> Trajectory:
        return Trajectory(self.out[rows], self.mean[rows], self.std[rows], self.log_sum[rows])

    def pdf(self, x: Tensor) -> Tensor:
        """[M]: density of the last step at x [M, C]."""
        scaled = (x - self.mean) / self.std
        each = (-0.5 * scaled.square()).exp() / (self.std * math.sqrt(2 * math.pi))
        return each.prod(dim=-1)


def trajectory(law: DiffusionDistribution, normal: Tensor, temperature: float) -> Trajectory:
    """From noise [M, K, C] as `DiffusionDistribution.reverse` takes it."""
    log_sum = torch.zeros_like(normal[:, 0])
    table, states = law.schedule.table.tolist(), list(law.trajectory(normal, temperature))
    for index, state in zip(reversed(range(len(table))), states[:-1], strict=True):
        *_, smallest, largest = table[index]
        place = law.predicted(state, int(law.schedule.steps[index]))[1]
        log_std = 0.5 * (smallest + (place + 1) / 2 * (largest - smallest))
        log_sum = log_sum + log_std if index else log_sum
    out = states[-1]
    return Trajectory(out, out, log_std.exp() * temperature, log_sum)


def factor(p: Trajectory, q: Trajectory) -> Tensor:
    """[M]"""
    return (p.log_sum - q.log_sum).sum(dim=-1).exp()


def ratio(x: Tensor, p: Trajectory, q: Trajectory, temperature: float) -> Tensor:
    """[M]: what uniform numbers are compared with, for values [M, C]."""
    above, below = (
        (-0.5 * ((x - law.mean) / (law.std * temperature)).square().sum(dim=-1)).exp() for law in (p, q)
    )
    return factor(p, q) * above * q.std.prod(dim=-1) / (below * p.std.prod(dim=-1))


def keep_chance(x: Tensor, p: Trajectory, q: Trajectory) -> Tensor:
    """[M]: of proposals [M, C] for the residual."""
    density = p.pdf(x)
    return (density - q.pdf(x) / factor(p, q)).clamp(min=0) / density


@dataclass(frozen=True)
class Redrawn:
    """`values` [M, C], which were `accepted` [M] bool, and how many rounds of proposals were made."""

    values: Tensor
    accepted: Tensor
    rounds: int


def verify(
    x: Tensor,
    p: Trajectory,
    q: Trajectory,
    temperature: float,
    uniform: Tensor,
    proposals: Iterator[tuple[Tensor, Tensor]],
) -> Redrawn:
    """Of drafted values [M, C]; `uniform` [M]; `proposals`: normal [M, C] and uniform [M] numbers of one
    round after another, which all rows take part in until each has been kept once."""
    accepted = ratio(x, p, q, temperature) > uniform
    if accepted.all():
        return Redrawn(x, accepted, 0)
    found, kept, rounds = torch.zeros_like(x), torch.zeros_like(accepted), 0
    while rounds < TRIALS and not kept.all():
        pair = next(proposals, None)
        if pair is None:  # fewer are stored
            break
        normal, number = pair
        proposal = p.mean + p.std * normal
        now = number < keep_chance(proposal, p, q)
        found = torch.where(now[:, None], proposal, found)
        kept, rounds = kept | now, rounds + 1
    return Redrawn(torch.where(accepted[:, None], x, found), accepted, rounds)
