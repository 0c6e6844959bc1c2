"""Layers of the Context-Aware Vision Head: attention over a prefix and causal local rows, rotary positions.

Names of parameters are the published ones (see `vision_head`). Keys and values go into a `RowStore`, so that
one code serves a whole image and the rows of an image that come one after another.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]  # [B, H, m, D] each
ROTATED, BASE = 32, 10000.0


def inverse_frequencies(head_width: int) -> Tensor:
    """[R / 2] for R = max(32, head_width // 2) rotated channels, rounded to bfloat16 as in the published
    code."""
    rotated = max(ROTATED, head_width // 2)
    exponents = torch.arange(0, rotated, 2).float() / rotated
    return (1.0 / BASE**exponents).bfloat16().float()


class RotaryPositions(nn.Module):
    """Positions [...] -> angles [..., R], each frequency twice."""

    inv_freq: Tensor

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", inverse_frequencies(head_width))

    def forward(self, positions: Tensor) -> Tensor:
        angles = positions[..., None].float() * self.inv_freq.float()
        return torch.cat([angles, angles], dim=-1)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """x [B, H, m, D] with its first R channels rotated by angles [B, m, R]."""
    angles = angles[:, None]
    turned, rest = x.split([angles.shape[-1], x.shape[-1] - angles.shape[-1]], dim=-1)
    first, second = turned.chunk(2, dim=-1)
    half = torch.cat([-second, first], dim=-1)
    turned = turned * angles.cos().to(x.dtype) + half * angles.sin().to(x.dtype)
    return torch.cat([turned, rest], dim=-1)


def by_head(x: Tensor, heads: int) -> Tensor:
    """[B, m, V] -> [B, H, m, D]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class RowStore:
    """Keys and values of the rows that a layer has read, with `room` for those of one image. Without
    gradients they are written in place, so that nothing grows; with gradients they are joined."""

    def __init__(self, room: int) -> None:
        self.room, self.count = room, 0
        self.held: KeysValues | None = None

    def append(self, new: KeysValues) -> KeysValues:
        """Keys and values of further rows [B, H, k, D] -> those of all rows."""
        start, self.count = self.count, self.count + new[0].shape[2]
        if torch.is_grad_enabled():
            self.held = new if self.held is None else self._joined(self.held, new, start)
            return self.held
        if self.held is None or self.held[0].shape[2] < self.count:
            self.held = self._widened(new, start)
        keys, values = self.held
        keys[:, :, start : self.count], values[:, :, start : self.count] = new
        return keys[:, :, : self.count], values[:, :, : self.count]

    @staticmethod
    def _joined(held: KeysValues, new: KeysValues, start: int) -> KeysValues:
        keys, values = (torch.cat([old[:, :, :start], x], 2) for old, x in zip(held, new, strict=True))
        return keys, values

    def _widened(self, like: KeysValues, start: int) -> KeysValues:
        """What is held, with room behind it."""
        rows, heads, _, width = like[0].shape
        shape = (rows, heads, max(self.room, self.count), width)
        keys, values = like[0].new_empty(shape), like[1].new_empty(shape)
        if self.held is not None:
            keys[:, :, :start], values[:, :, :start] = (old[:, :, :start] for old in self.held)
        return keys, values


class PrefixCausalAttention(nn.Module):
    """Local rows attend to the rows of a prefix and to local rows up to themselves."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.context_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width)

    def prefix(self, rows: Tensor, angles: Tensor) -> KeysValues:
        """Keys and values of prefix rows [B, m, V]."""
        return self._keys_values(self.context_norm(rows), angles)

    def forward(self, x: Tensor, angles: Tensor, rows: RowStore, seen: Tensor) -> Tensor:
        """New rows x [B, k, V] after those of the store, and which of all m each sees [B, 1, k, m] -> [B, k,
        V]; the store then has them."""
        x = self.norm(x)
        keys, values = rows.append(self._keys_values(x, angles))
        found = F.scaled_dot_product_attention(
            rotate(by_head(self.to_q(x), self.heads), angles), keys, values, attn_mask=seen
        )
        out: Tensor = self.to_out(found.transpose(1, 2).flatten(2))
        return out

    def _keys_values(self, rows: Tensor, angles: Tensor) -> KeysValues:
        keys, values = (by_head(part, self.heads) for part in self.to_kv(rows).chunk(2, dim=-1))
        return rotate(keys, angles), values


class CausalAttention(nn.Module):
    """Local rows attend to local rows up to themselves."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, angles: Tensor, rows: RowStore, seen: Tensor) -> Tensor:
        """As `PrefixCausalAttention`, without a prefix."""
        q, k, v = (by_head(part, self.heads) for part in self.to_qkv(self.norm(x)).chunk(3, dim=-1))
        keys, values = rows.append((rotate(k, angles), v))
        found = F.scaled_dot_product_attention(rotate(q, angles), keys, values, attn_mask=seen)
        out: Tensor = self.to_out(found.transpose(1, 2).flatten(2))
        return out


def feed_forward(width: int) -> nn.Sequential:
    """LayerNorm, four times the width, exact GELU; the published module has dropout of 0 at index 3."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width, bias=False),
        nn.GELU(),
        nn.Identity(),
        nn.Linear(4 * width, width, bias=False),
    )
