"""Rotary embedding of positions on several axes, and the two ways in which published models turn channels.

Source: Su et al., RoFormer, arXiv 2104.09864. Channels of a head are shared out among the axes; models
differ in which two channels make a pair: neighbours, or one of each half of the head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def frequencies(width: int, base: float, device: torch.device | None = None) -> Tensor:
    """[width / 2]: base^(-2 j / width), float64."""
    return float(base) ** (-torch.arange(0, width, 2, dtype=torch.float64, device=device) / width)


def angles(positions: Tensor, rates: Sequence[Tensor]) -> Tensor:
    """positions [..., axes], rates of each axis -> [..., sum of rates]: the axes one after another."""
    parts = [positions[..., axis, None] * rate.to(positions.device) for axis, rate in enumerate(rates)]
    return torch.cat(parts, dim=-1)


def grid_positions(rows: int, columns: int) -> Tensor:
    """[rows * columns, 2]: row and column of every place."""
    axes = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack(axes, dim=-1).flatten(0, 1)


def rotate_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., n, c] with channels 2 j and 2 j + 1 turned by an angle; cos and sin [n, c / 2]."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(dim=-1)
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., n, c] with channels j and j + c / 2 combined; cos and sin [n, c], one for each channel."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
