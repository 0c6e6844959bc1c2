"""Drawing by ACDiT: block after block, each by a diffusion solver against the cached clean blocks before it.

Source: Hu et al., arXiv 2412.07720. A finished block enters the cache in the first solver step of the next
one; nothing noisy is ever cached. Noise is a function of row and place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from unified.checkpoints.acdit.network import ACDiT
from unified.decoding.noise import Noise
from unified.finite import check_count, check_number
from unified.heads.diffusion_solvers import SolverStep, ddim, dpm_solver, evenly, leading, linear_kept

SOLVERS = ("dpm", "ddim")
CLIP = 1.0  # of DDIM as published with the defaults of its library


@dataclass(frozen=True, kw_only=True)
class BlockDecoding:
    """`steps` of the solver for a block; guidance `scale` (1: no null branch). Released: DPM-Solver++ of 25
    steps, scale 1.5 for images. "ddim" keeps values within 1."""

    steps: int = 25
    scale: float = 1.0
    solver: Literal["dpm", "ddim"] = "dpm"

    def __post_init__(self) -> None:
        check_count("steps", self.steps, 1)
        check_number("scale", self.scale)
        if self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {self.solver!r}")

    @property
    def path(self) -> list[SolverStep]:
        return (evenly if self.solver == "dpm" else leading)(linear_kept(), self.steps)


Watch = Callable[[int, Tensor], None]  # block, raw predictions [R, P, C] of each call


@torch.no_grad()
def sample(
    model: ACDiT,
    labels: Tensor,
    noise: Noise,
    settings: BlockDecoding | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Latents [B, T, P, C] of new images or clips, in the order of blocks. labels [B]."""
    settings, layout = settings or BlockDecoding(), model.config.layout
    solve = dpm_solver if settings.solver == "dpm" else partial(ddim, clip=CLIP)
    stores, found = model.stores(), list[Tensor]()
    null = torch.full_like(labels, model.config.classes)
    both = labels if settings.scale == 1 else torch.cat([labels, null])
    for block in range(layout.count):
        places = torch.arange(block * layout.size, (block + 1) * layout.size, device=labels.device)
        start = noise.normal(places.expand(len(labels), -1), model.config.channels, device=labels.device)
        before = [found[-1]] if found else []

        def predict(x: Tensor, step: int, block: int = block, before: list[Tensor] = before) -> Tensor:
            repeats = len(both) // len(x)
            clean = before.pop().repeat(repeats, 1, 1) if before else None  # once, in the first step
            condition = model.condition(both, torch.full((len(both), 1), step, device=both.device))
            found = model.step(x.float().repeat(repeats, 1, 1), condition, block, stores, clean)
            if watch is not None:
                watch(block, found)
            if repeats == 1:
                return found
            own, other = found.chunk(2)
            return other + settings.scale * (own - other)

        found.append(solve(predict, start, settings.path).float())
    return torch.stack(found, dim=1)
