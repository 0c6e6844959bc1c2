"""Where code vectors come from: a plain table, or a table passed through shared weights.

In a plain table only the codes that a batch picks get a gradient; the rest fall behind and die. If the whole
table goes through one small network, a gradient to any code moves all of them. `linear` and `mlp` mix
channels (SimVQ; FVQ's stand-in of five layers); `bridge` mixes codes too (Chang et al. 2025, arXiv
2509.10140: VQBridge). Simplified against the paper: normalisation with affine parameters in the blocks; the
published network is `unified/checkpoints/fvq`. Once trained, `export` turns any of them into a plain table
with the same rows, so generation costs nothing more. `tests/tokenizers/test_visual.py` holds both properties;
the effect on collapse was measured by hand only.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class CodebookConfig:
    """`patch`, `width` and `blocks` matter to the bridge only: it reads the table as a square grid of
    patches."""

    kind: Literal["plain", "linear", "mlp", "bridge"] = "plain"
    patch: int = 4
    width: int = 128
    blocks: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        if self.kind not in CODEBOOKS:
            raise ValueError(f"unknown codebook {self.kind!r}: choose one of {', '.join(CODEBOOKS)}")
        if self.width % self.heads or self.blocks < 1 or self.patch < 1:
            raise ValueError("the bridge needs width divisible by heads, and blocks and patch of at least 1")

    def check(self, codes: int) -> None:
        """ValueError if a codebook of this kind cannot have so many codes."""
        side = math.isqrt(codes)
        if self.kind == "bridge" and (side * side != codes or side % self.patch):
            raise ValueError(
                f"a bridge needs a square number of codes whose root {self.patch} divides, got {codes}"
            )


class PlainCodebook(nn.Module):
    """A table [codes, dim]; `forward` returns it."""

    def __init__(self, codes: int, dim: int, config: CodebookConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(codes, dim) / math.sqrt(dim))

    def forward(self) -> Tensor:
        return self.weight


class LinearCodebook(nn.Module):
    """A fixed random table through one learned linear map (Zhu et al. 2024, arXiv 2411.02038)."""

    def __init__(self, codes: int, dim: int, config: CodebookConfig) -> None:
        super().__init__()
        self.register_buffer("raw", torch.randn(codes, dim) / math.sqrt(dim))
        self.linear = nn.Linear(dim, dim)

    def forward(self) -> Tensor:
        return self.linear(self.raw)


class MLPCodebook(nn.Module):
    """A learned table through five learned linear maps with ReLU between them (arXiv 2509.10140,
    ablation)."""

    def __init__(self, codes: int, dim: int, config: CodebookConfig) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.randn(codes, dim) / math.sqrt(dim))
        layers = [part for _ in range(4) for part in (nn.Linear(dim, dim), nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(dim, dim))

    def forward(self) -> Tensor:
        return self.layers(self.raw)


class BridgeCodebook(nn.Module):
    """Raw table -> square grid -> patches -> transformer over all patches -> grid -> table."""

    def __init__(self, codes: int, dim: int, config: CodebookConfig) -> None:
        super().__init__()
        config.check(codes)
        self.side, self.patch = math.isqrt(codes), config.patch
        self.raw = nn.Parameter(torch.randn(codes, dim) / math.sqrt(dim))
        self.compress = nn.Conv2d(dim, config.width, config.patch, stride=config.patch)
        self.process = nn.Sequential(*(_Block(config.width, config.heads) for _ in range(config.blocks)))
        self.recover = nn.Linear(config.width, config.patch**2 * dim)
        # The paper starts the last layer at zero, which makes all rows equal; with L2-normalised codes those
        # rows have no direction, so it starts small instead.
        nn.init.normal_(self.recover.weight, std=0.02)
        nn.init.zeros_(self.recover.bias)

    def forward(self) -> Tensor:
        grid = self.raw.T.unflatten(1, (self.side, self.side))  # [D, side, side]
        tokens = self.compress(grid[None]).flatten(2).transpose(1, 2)  # [1, patches, width]
        patches = self.recover(self.process(tokens)).transpose(1, 2)  # [1, patch^2 * D, patches]
        # `fold` puts patches back without overlap; it reads channels as (D, row, column).
        back = F.fold(patches, (self.side, self.side), self.patch, stride=self.patch)
        return back[0].flatten(1).T  # [codes, D]


class _Block(nn.Module):
    """Pre-norm transformer block without positions: 4 heads, MLP ratio 2, tanh-GELU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        # Not nn.MultiheadAttention: it computes differently without gradient, and codes must not depend on
        # that.
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU("tanh"), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # [B, H, T, D]
        attended = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1) @ v
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


CODEBOOKS: dict[str, Any] = {
    "plain": PlainCodebook,
    "linear": LinearCodebook,
    "mlp": MLPCodebook,
    "bridge": BridgeCodebook,
}


def build_codebook(codes: int, dim: int, config: CodebookConfig) -> nn.Module:
    """A module whose `forward()` is the table [codes, dim]."""
    config.check(codes)
    return CODEBOOKS[config.kind](codes, dim, config)


Tokenizer = TypeVar("Tokenizer", bound=Any)


@torch.no_grad()
def export(tokenizer: Tokenizer) -> Tokenizer:
    """A copy of a tokenizer (anything with `table` and `config.codebook`) whose codes lie in a plain table:
    identical ids and images."""
    rows = tokenizer.table().detach().clone()
    exported = copy.deepcopy(tokenizer)
    exported.table = PlainCodebook(rows.shape[0], rows.shape[1], CodebookConfig())
    exported.table.to(rows.device, rows.dtype).weight.copy_(rows)
    exported.config = replace(tokenizer.config, codebook=CodebookConfig())
    return exported
