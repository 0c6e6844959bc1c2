"""Drawing by xAR: unit after unit, each by a solver whose steps run the whole network against the cached
keys and values of the clean units before it.

A clean unit enters the cache once, in the first step of the next one. Guidance grows over the units from 1
at the first. Source: Ren et al., arXiv 2502.20388. Different from the released code: two steps are as good
as any other number (there the last step reads the clean unit twice), and noise is a function of row and
place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unified.checkpoints.xar.network import XAR, causal, thousandths
from unified.decoding.noise import Noise
from unified.finite import check_count, check_number
from unified.heads.flow_matching import euler, euler_maruyama, euler_times, stochastic_times
from unified.heads.vision_head_layers import RowStore

SOLVERS = ("euler_maruyama", "euler")


@dataclass(frozen=True, kw_only=True)
class UnitDecoding:
    """`steps` of the solver for a unit; guidance `scale` of the last unit (1: no null branch), in force at
    times within `interval`. Released: 40 to 50 steps, scales 2.7, 2.3 and 2.2."""

    steps: int = 50
    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    solver: Literal["euler_maruyama", "euler"] = "euler_maruyama"

    def __post_init__(self) -> None:
        check_count("steps", self.steps, 1)
        check_number("scale", self.scale, 1)
        if self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {self.solver!r}")

    @property
    def times(self) -> list[float]:
        return stochastic_times(self.steps) if self.solver == "euler_maruyama" else euler_times(self.steps)

    def scale_of(self, unit: int, count: int) -> float:
        """The guidance scale of a unit of `count`."""
        return 1 + (self.scale - 1) * unit / max(count - 1, 1)


Watch = Callable[[int, Tensor], None]  # unit, raw velocities [R, P, C] of each call


@torch.no_grad()
def sample(
    model: XAR, labels: Tensor, noise: Noise, settings: UnitDecoding | None = None, watch: Watch | None = None
) -> Tensor:
    """Latents [B, L, C], row by row, of new images. labels [B]."""
    settings = settings or UnitDecoding()
    count, size, channels = model.units.count, model.units.size, model.config.channels
    stores, found = model.stores(), list[Tensor]()
    draws = settings.steps if settings.solver == "euler_maruyama" else 1
    for unit in range(count):
        places = model.units.places[unit * size : (unit + 1) * size].expand(len(labels), -1)
        normal = noise.normal(places, draws * channels, device=model.pred.weight.device)
        start, *noises = normal.to(torch.float64).unflatten(-1, (draws, channels)).unbind(dim=2)
        velocity = UnitVelocity(model, labels, settings, unit, found[-1] if found else None, stores, watch)
        if settings.solver == "euler_maruyama":
            x = euler_maruyama(velocity, start, noises, settings.times)
        else:
            x = euler(velocity, start, settings.times)
        found.append(x.float())
    return model.units.join(torch.stack(found, dim=1))


class UnitVelocity:
    """The velocity of one unit. The first call reads the clean unit before it as well and puts that one's
    keys and values into `stores`; later calls run the unit alone."""

    def __init__(
        self,
        model: XAR,
        labels: Tensor,
        settings: UnitDecoding,
        unit: int,
        before: Tensor | None,
        stores: list[RowStore],
        watch: Watch | None = None,
    ) -> None:
        self.model, self.settings, self.unit, self.before = model, settings, unit, before
        self.stores, self.watch = stores, watch
        null = torch.full_like(labels, model.config.classes)
        self.labels = torch.cat([labels, null]) if settings.scale > 1 else labels

    def __call__(self, x: Tensor, time: float) -> Tensor:
        """x [B, P, C] at a time in 0 to 1 -> [B, P, C]."""
        tokens, first, size = x.float(), self.unit, x.shape[1]
        times = thousandths(torch.full((len(self.labels), 1), time, dtype=torch.float64))
        mask = None
        if self.before is not None:
            tokens, first = torch.cat([self.before, tokens], dim=1), self.unit - 1
            times = torch.cat([torch.zeros_like(times), times], dim=1)
            labels = self.model.units.labels[: (self.unit + 1) * size]
            mask = causal(labels[first * size :], labels)
        condition = self.model.condition(self.labels, times.to(self.labels.device))
        tokens = tokens.repeat(len(self.labels) // len(x), 1, 1)
        kept, self.before = first != self.unit, None
        found = self.model.velocity(tokens, condition, first, mask, self.stores, int(kept))[:, -size:]
        if self.watch is not None:
            self.watch(self.unit, found)
        return self._guided(found, time)

    def _guided(self, found: Tensor, time: float) -> Tensor:
        scale = self.settings.scale_of(self.unit, self.model.units.count)
        if len(found) != len(self.labels) or self.settings.scale == 1:
            return found
        own, null = found.double().chunk(2)
        low, high = self.settings.interval
        return null + scale * (own - null) if scale > 1 and low <= time <= high else own
