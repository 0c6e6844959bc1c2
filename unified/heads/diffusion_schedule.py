"""How fast a diffusion head adds noise: the cosine schedule, and fewer steps of it for sampling.

Sources: Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models, arXiv 2102.09672 (cosine
schedule, respacing, interpolated variances); LTH14/mar (MIT), diffusion/. Notation: beta_i is the variance
added by step i, x_i = sqrt(a_i) x_0 + sqrt(1 - a_i) noise with a_i the product of 1 - beta up to i.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

LARGEST_BETA = 0.999


@dataclass(frozen=True, eq=False)
class DiffusionSchedule:
    """Per kept step, float64 [K]: `steps` (its number in the full schedule, which the network is told),
    `betas`, `kept` (a_i: how much of the variance of a value is left) and `kept_before` (of the step
    before)."""

    steps: Tensor
    betas: Tensor
    kept: Tensor
    kept_before: Tensor

    @staticmethod
    def of(betas: Tensor, steps: Tensor) -> DiffusionSchedule:
        """The steps that are kept of a full schedule, with betas that lead to the same variances."""
        kept = (1 - betas).cumprod(0)[steps]
        before = torch.cat([kept.new_ones(1), kept[:-1]])
        betas = 1 - kept / before
        return DiffusionSchedule(steps, betas, (1 - betas).cumprod(0), before)

    @property
    def posterior_variance(self) -> Tensor:
        """Of x_{i-1} given x_i and x_0; 0 at the first step."""
        return self.betas * (1 - self.kept_before) / (1 - self.kept)

    @property
    def posterior_log_variance(self) -> Tensor:
        """With the second entry in place of the first, which is minus infinity."""
        variance = self.posterior_variance
        return torch.cat([variance[1:2] if len(variance) > 1 else self.betas[:1], variance[1:]]).log()

    @property
    def posterior_weights(self) -> tuple[Tensor, Tensor]:
        """Of x_0 and of x_i in the mean of x_{i-1} given both."""
        value = self.betas * self.kept_before.sqrt() / (1 - self.kept)
        return value, (1 - self.kept_before) * (1 - self.betas).sqrt() / (1 - self.kept)

    @cached_property
    def table(self) -> Tensor:
        """[K, 6] float64, all that a step needs: sqrt(1 / a), sqrt(1 / a - 1), both posterior weights, and
        the smallest and largest log-variance (posterior and beta)."""
        inverse = (1 / self.kept).sqrt(), (1 / self.kept - 1).sqrt()
        variances = self.posterior_log_variance, self.betas.log()
        return torch.stack([*inverse, *self.posterior_weights, *variances], dim=-1)


@lru_cache
def cosine(steps: int, sections: tuple[int, ...] = ()) -> DiffusionSchedule:
    """The cosine schedule of so many steps; with `sections` those of `spaced`."""

    def share(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - share((i + 1) / steps) / share(i / steps), LARGEST_BETA) for i in range(steps)]
    chosen = spaced(steps, sections) if sections else list(range(steps))
    with torch.device("cpu"):  # kept for all callers, also where modules are built without storage
        return DiffusionSchedule.of(torch.tensor(betas, dtype=torch.float64), torch.tensor(chosen))


def spaced(steps: int, sections: Sequence[int]) -> list[int]:
    """Numbers of the steps that are kept: `steps` are cut into equal sections, and of each as many are taken
    as `sections` says, evenly spread from its first to its last."""
    size, longer = divmod(steps, len(sections))
    chosen: list[int] = []
    start = 0
    for number, count in enumerate(sections):
        length = size + (number < longer)
        if count > length:
            raise ValueError(f"a section of {length} diffusion steps has no {count} to keep: ask for fewer")
        stride, place = (length - 1) / (count - 1) if count > 1 else 1.0, 0.0
        for _ in range(count):
            chosen.append(start + round(place))
            place += stride  # summed, as published: a product may round to another step
        start += length
    return chosen


def strided(steps: int, count: int) -> list[int]:
    """Every n-th step from 0 on, with the smallest n that keeps `count` of them (DDIM, arXiv 2010.02502).
    ValueError where there is none."""
    for stride in range(1, steps):
        if len(range(0, steps, stride)) == count:
            return list(range(0, steps, stride))
    raise ValueError(f"no stride keeps {count} of {steps} diffusion steps")
