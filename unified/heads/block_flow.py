"""A flow over all values of one step together: blocks of vectors that depend on one another.

A head that denoises every value alone makes the values of a step independent given what came before; here a
few attention layers run over the slots of a step, each told its hidden state, with one time for all of them.
The states of the backbone know nothing of noise and time, so keys and values of clean blocks stay what they
are, whatever is denoised after them. Blocks as in ACDiT (Hu et al., arXiv 2412.07720) and xAR (arXiv
2502.20388), which denoise with the whole backbone. Tests: tests/unified/test_latent_models.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unified.heads.flow import SCALE, FlowConfig, FlowDistribution, Weighted
from unified.heads.flow_matching import noised
from unified.heads.transformer_layers import (
    Block,
    BlockParts,
    FinalLayer,
    Modulation,
    Seen,
    TimeEmbedding,
    bare_layer_norm,
    modulation_layer,
)

HEADS = 4
PARTS = BlockParts(norm=bare_layer_norm)


class BlockDenoiser(nn.Module):
    """The velocity of noisy values x [G, n, C] at times [G], told hidden states [G, n, D]; of padding (`real`
    [G, n] False) nothing is read."""

    def __init__(self, width: int, channels: int, inner: int, depth: int) -> None:
        super().__init__()
        if inner % HEADS:
            raise ValueError(f"the inner width of a block flow must be a multiple of {HEADS}, got {inner}")
        self.inputs, self.condition = nn.Linear(channels, inner), nn.Linear(width, inner)
        self.time, self.modulation = TimeEmbedding(inner), modulation_layer(inner, 6)
        self.blocks = nn.ModuleList(Block(inner, HEADS, 4 * inner, PARTS) for _ in range(depth))
        self.final = FinalLayer(inner, channels)
        self.start()

    def initialise(self, std: float) -> None:
        """As of every part of a model that begins on its own; the layers are drawn by then."""
        self.start()

    @torch.no_grad()
    def start(self) -> None:
        """First weights: blocks pass on what they get, and the velocity is zero."""
        for layer in (self.modulation[-1], self.final.linear, self.final.adaLN_modulation[-1]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, times: Tensor, hidden: Tensor, real: Tensor | None = None) -> Tensor:
        dtype = self.inputs.weight.dtype
        told = self.time(SCALE * times)[:, None]
        x = self.inputs(x.to(dtype)) + self.condition(hidden.to(dtype))
        shifts, seen = Modulation.of(self.modulation(told)), Seen(mask=None if real is None else _mask(real))
        for block in self.blocks:
            x = block(x, shifts, seen)
        found: Tensor = self.final(x, told)
        return found.float()


def _mask(real: Tensor) -> Tensor:
    """[G, 1, n, n]: real slots are seen by all, padding by itself."""
    return real[:, None, None, :] | torch.eye(real.shape[1], dtype=torch.bool, device=real.device)


class BlockFlowHead(nn.Module):
    """`channels` values for hidden states of `width`, a step of them together, in `steps` of the solver."""

    def __init__(self, width: int, channels: int, inner: int = 64, depth: int = 3, steps: int = 25) -> None:
        super().__init__()
        self.channels, self.config = channels, FlowConfig(inner=inner, depth=depth, steps=steps)
        self.embedding = nn.Linear(channels, width)
        self.denoiser = BlockDenoiser(width, channels, inner, depth)

    def embed(self, codes: Tensor) -> Tensor:
        """Vectors [..., C] -> [..., D]."""
        return self.embedding(codes.to(self.embedding.weight.dtype))

    def distribution(self, hidden: Tensor) -> BlockFlowDistribution:
        """Of hidden states [B, n, D]: the n of a row are one block."""
        return BlockFlowDistribution(self.denoiser, self.config, (Weighted(hidden, 1.0),))

    def denoising_loss(
        self, hidden: Tensor, values: Tensor, times: Tensor, noise: Tensor, groups: Tensor
    ) -> Tensor:
        """Squared error of the velocity, a mean over channels: hidden [M, D], values and noise [M, C], times
        and `groups` [M], which say what is one block -> [M]. A block takes the time of its first value."""
        places, real = blocks_of(groups)
        at = times[places[:, 0]]
        x = noised(values[places], noise[places], at[:, None, None])
        found = self.denoiser(x, at, hidden[places], real)
        error = (found - (noise - values)[places]).square().mean(dim=-1)
        return torch.zeros_like(times, dtype=error.dtype).index_put((places[real],), error[real])


def blocks_of(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers [M] -> the places of each block's members in ascending order [G, n], padded with its first, and
    which of them are real."""
    _, block, counts = groups.unique(return_inverse=True, return_counts=True)
    order = block.argsort(stable=True)
    first = counts.cumsum(0) - counts
    ahead = torch.arange(int(counts.max()), device=groups.device)
    real = ahead < counts[:, None]
    return order[first[:, None] + ahead.masked_fill(~real, 0) * real], real


class BlockFlowDistribution(FlowDistribution):
    """The flow of blocks along a linear combination of velocities; hidden states [B, n, D]."""

    def velocity(self, x: Tensor, time: float) -> Tensor:
        """Of states [B, n, C], in one pass for all hidden states."""
        count = len(self.terms)
        hidden = torch.cat([term.hidden for term in self.terms])
        times = torch.full((len(hidden),), time, device=x.device, dtype=torch.float32)
        parts = self.denoiser(x.float().repeat(count, 1, 1), times, hidden).chunk(count)
        return torch.stack([p * t.share for p, t in zip(parts, self.terms, strict=True)]).sum(0)
