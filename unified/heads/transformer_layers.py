"""Layers that published continuous models share: time embedding, attention, feed-forward, and one block
that is plain or shifted, scaled and gated by a condition (AdaLN).

Sources: Dosovitskiy et al., An Image is Worth 16x16 Words, arXiv 2010.11929 (the plain block); Peebles and
Xie, Scalable Diffusion Models with Transformers, arXiv 2212.09748 (the modulated one). Parameter names are
those of the published checkpoints. Tests: tests/unified/heads/test_transformer_layers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.heads.denoiser import waves
from unified.heads.vision_head_layers import RowStore, by_head

EPS = 1e-6
Map = Callable[[Tensor], Tensor]


class Modulation(NamedTuple):
    """What a condition does to a block, each [B, n or 1, D]: shift, scale and gate of attention and then of
    the feed-forward. Zero shifts and scales and gates of one are a plain block."""

    shift1: Tensor
    scale1: Tensor
    gate1: Tensor
    shift2: Tensor
    scale2: Tensor
    gate2: Tensor

    @staticmethod
    def of(values: Tensor) -> Modulation:
        """[B, n, 6D], in this order."""
        return Modulation(*values.chunk(6, dim=-1))


def layer_norm(width: int) -> nn.Module:
    return nn.LayerNorm(width, eps=EPS)


def bare_layer_norm(width: int) -> nn.Module:
    """Without weights."""
    return nn.LayerNorm(width, eps=EPS, elementwise_affine=False)


def rms_norm(width: int) -> nn.Module:
    return nn.RMSNorm(width, eps=EPS)


def bare_rms_norm(width: int) -> nn.Module:
    """Without weights."""
    return nn.RMSNorm(width, eps=EPS, elementwise_affine=False)


def tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalised x times 1 + scale, plus shift."""
    return torch.addcmul(shift, x, 1 + scale)


class TimeEmbedding(nn.Module):
    """Times [M] -> [M, D]: 256 waves, then two linear maps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, times: Tensor) -> Tensor:
        found: Tensor = self.mlp(waves(times).to(next(self.mlp.parameters()).dtype))
        return found


def modulation_layer(width: int, parts: int) -> nn.Sequential:
    """A condition [..., D] -> [..., parts * D]."""
    return nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int, activation: Map = F.gelu) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc2(self.activation(self.fc1(x)))
        return found


class GatedFeedForward(nn.Module):
    """The activation of one linear map times another."""

    def __init__(self, width: int, hidden: int, activation: Map = F.gelu) -> None:
        super().__init__()
        self.fc1_g, self.fc1_x = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc2(self.activation(self.fc1_g(x)) * self.fc1_x(x))
        return found


@dataclass(frozen=True, eq=False)
class Seen:
    """What the attention of every layer is told. `mask`: which keys each position sees, broadcast to [B, H,
    n, m] bool (None: all). `rotation`: turns queries and keys [B, H, n, c]. `stores`: earlier keys and
    values, one store for each layer; of the new ones the first `kept` are added, the rest are seen in this
    pass alone."""

    mask: Tensor | None = None
    rotation: Map | None = None
    stores: list[RowStore] | None = None
    kept: int = 0


EVERYTHING = Seen()


class Attention(nn.Module):
    """`head_norm`: a norm of queries and keys of each head."""

    def __init__(self, width: int, heads: int, head_norm: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q_norm = head_norm(width // heads) if head_norm else nn.Identity()
        self.k_norm = head_norm(width // heads) if head_norm else nn.Identity()

    def forward(self, x: Tensor, seen: Seen = EVERYTHING, layer: int = 0) -> Tensor:
        q, k, v = (by_head(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = self.q_norm(q), self.k_norm(k)
        if seen.rotation is not None:
            q, k = seen.rotation(q), seen.rotation(k)
        if seen.stores is not None:
            kept = seen.kept
            keys, values = seen.stores[layer].append((k[:, :, :kept], v[:, :, :kept]))
            k, v = torch.cat([keys, k[:, :, kept:]], dim=2), torch.cat([values, v[:, :, kept:]], dim=2)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=seen.mask)
        out: Tensor = self.proj(found.transpose(1, 2).flatten(2))
        return out


@dataclass(frozen=True, kw_only=True)
class BlockParts:
    """`norm`, `head_norm` (None: none) and `feed_forward` of a block; `modulated`: whether it has a
    modulation layer of its own, in the order of `Modulation`."""

    norm: Callable[[int], nn.Module] = layer_norm
    head_norm: Callable[[int], nn.Module] | None = None
    feed_forward: Callable[[int, int], nn.Module] = FeedForward
    modulated: bool = False


PLAIN = BlockParts()


class Block(nn.Module):
    """x [B, n, D] -> the same; `hidden`: width of the feed-forward."""

    def __init__(self, width: int, heads: int, hidden: int, parts: BlockParts = PLAIN) -> None:
        super().__init__()
        self.norm1, self.norm2 = parts.norm(width), parts.norm(width)
        self.attn = Attention(width, heads, parts.head_norm)
        self.mlp = parts.feed_forward(width, hidden)
        if parts.modulated:
            self.adaLN_modulation = modulation_layer(width, 6)

    def forward(
        self, x: Tensor, told: Modulation | None = None, seen: Seen = EVERYTHING, layer: int = 0
    ) -> Tensor:
        if told is None:
            x = x + self.attn(self.norm1(x), seen, layer)
            return x + self.mlp(self.norm2(x))
        x = x + told.gate1 * self.attn(modulated(self.norm1(x), told.shift1, told.scale1), seen, layer)
        return x + told.gate2 * self.mlp(modulated(self.norm2(x), told.shift2, told.scale2))


class FinalLayer(nn.Module):
    """A modulated norm and a linear map to `outputs` values."""

    def __init__(self, width: int, outputs: int, norm: Callable[[int], nn.Module] = bare_layer_norm) -> None:
        super().__init__()
        self.norm_final = norm(width)
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = modulation_layer(width, 2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=-1)
        found: Tensor = self.linear(modulated(self.norm_final(x), shift, scale))
        return found


def stores_for(layers: int, room: int) -> list[RowStore]:
    """Empty stores of keys and values with room for so many positions."""
    return [RowStore(room) for _ in range(layers)]


def count_blocks(names: Iterable[str], prefix: str) -> int:
    """How many numbered modules `prefix`.0, .1, ... the names of weights have."""
    start = f"{prefix}."
    found = {name.removeprefix(start).split(".")[0] for name in names if name.startswith(start)}
    return sum(part.isdigit() for part in found)
