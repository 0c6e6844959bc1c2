"""Continuous heads that write codes: a code spells a vector (`tokenizers/latent_grid.py`), and the head draws
the vector.

`flow` and `diffusion` denoise every vector alone, `block_flow` all vectors of a step together. They take the
place of a table head in the model, its trainer and its sessions; where those sum log-probabilities, a score
is minus the denoising loss at drawn times and noise (`unified/bound.py`). Sources: MAR, arXiv 2406.11838; the
networks' modules. Tests: tests/unified/test_latent_models.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unified.counter_noise import normal_of
from unified.finite import check_tree
from unified.heads.block_flow import BlockFlowHead
from unified.heads.diffusion import DiffusionConfig, DiffusionHead
from unified.heads.distribution import Distribution
from unified.heads.flow import FlowConfig, FlowHead
from unified.tokenizers.latent_grid import LatentGrid

LATENT_HEADS = ("flow", "diffusion", "block_flow")
SECTIONS = 19  # of a diffusion schedule that are sampled in; a twentieth, where all is noise, is left out


@dataclass(frozen=True, kw_only=True)
class LatentHeadConfig:
    """`channels`, `bits`, `reach`: of the tokenizer's `LatentGrid`. `inner`, `depth`: of the denoising
    network; `steps` of the solver (0: 25 of a flow, 95 of a diffusion); `repeats`: draws of time and noise
    for each vector of a batch."""

    channels: int = 4
    bits: int = 15
    reach: float = 4.0
    inner: int = 64
    depth: int = 3
    steps: int = 0
    repeats: int = 4

    def __post_init__(self) -> None:
        check_tree(self)
        if min(self.inner, self.depth, self.repeats) < 1 or self.steps < 0:
            raise ValueError("inner, depth and repeats must be at least 1, and steps 0 or more")

    @property
    def grid(self) -> LatentGrid:
        return LatentGrid(self.channels, self.bits, self.reach)


class LatentHead(nn.Module):
    """`kind`: one of `LATENT_HEADS`. `codes` must be those of the grid. `embeds` is there for what makes
    heads of any kind: this one always embeds."""

    exact = False

    def __init__(
        self, kind: str, width: int, codes: int, *, embeds: bool = True, options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        config = self.config = LatentHeadConfig(**options)
        self.kind, self.grid = kind, config.grid
        if codes != self.grid.codes:
            raise ValueError(
                f"{config.channels} channels of {config.bits} bits are {self.grid.codes} codes, the "
                f"vocabulary has {codes}: take head_options from the tokenizer"
            )
        self.symbols, self.values = config.channels, config.inner * config.depth * config.repeats
        self.network = _network(kind, width, config)

    def embed(self, codes: Tensor) -> Tensor:
        """Codes [...] -> [..., D]."""
        found: Tensor = self.network.embed(self.to_symbols(codes))
        return found

    def distribution(self, hidden: Tensor) -> Distribution:
        found: Distribution = self.network.distribution(hidden)
        return found

    def to_symbols(self, codes: Tensor) -> Tensor:
        """[...] -> vectors [..., C], float32."""
        return self.grid.to_vectors(codes)

    def to_codes(self, symbols: Tensor) -> Tensor:
        """Vectors [..., C] -> the codes [...] of the nearest levels."""
        return self.grid.to_codes(symbols)

    @property
    def whole_steps(self) -> bool:
        """Whether the vectors of a step have to be scored together."""
        return self.kind == "block_flow"

    @property
    def draws(self) -> int:
        """Uniform numbers that `bound` takes for each vector."""
        return self.config.repeats * (1 + self.config.channels)

    def bound(self, hidden: Tensor, values: Tensor, draws: Tensor, groups: Tensor) -> Tensor:
        """The denoising loss [N], a mean over channels and repeats: hidden [N, D], values [N, C], uniform
        numbers `draws` [N, K], and `groups` [N] of the vectors that are written together."""
        repeats, count = self.config.repeats, len(values)
        if not count:
            return 0.0 * hidden.float().sum(dim=-1)
        drawn = draws.unflatten(-1, (repeats, -1)).transpose(0, 1)  # [R, N, 1 + C]
        times, noise = drawn[..., 0].flatten().float(), normal_of(drawn[..., 1:]).flatten(0, 1).float()
        many: dict[str, Tensor] = {}
        if self.kind == "diffusion":
            total = self.network.config.steps
            times = (times * total).long().clamp(max=total - 1)
        if self.kind == "block_flow":
            copies = torch.arange(repeats, device=groups.device)[:, None]
            ranked = groups.unique(return_inverse=True)[1]
            many["groups"] = (ranked + copies * count).flatten()
        hidden, values = hidden.repeat(repeats, 1), values.float().repeat(repeats, 1)
        loss: Tensor = self.network.denoising_loss(hidden, values, times, noise, **many)
        return loss.view(repeats, count).mean(dim=0)


def _network(kind: str, width: int, config: LatentHeadConfig) -> Any:
    told: dict[str, Any] = {"inner": config.inner, "depth": config.depth}
    if kind == "flow":
        flow = FlowConfig(**told, steps=config.steps or 25, repeats=config.repeats)
        return FlowHead(width, config.channels, flow)
    if kind == "diffusion":
        each = -(-(config.steps or 95) // SECTIONS)
        diffusion = DiffusionConfig(**told, sampling=(each,) * SECTIONS + (0,), repeats=config.repeats)
        return DiffusionHead(width, config.channels, diffusion)
    return BlockFlowHead(width, config.channels, steps=config.steps or 25, **told)
