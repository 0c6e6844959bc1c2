"""Sizes of token maps and the two resamplings that next-scale tokenizers are defined with."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, int]


def as_shapes(sizes: Sequence[int | Sequence[int]]) -> list[Shape]:
    """Sizes p (meaning p x p) or pairs (h, w) -> pairs. ValueError for anything else."""
    if not sizes:
        raise ValueError("a schedule needs at least one map size")
    return [_as_shape(size) for size in sizes]


def _as_shape(size: int | Sequence[int]) -> Shape:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise ValueError(f"a map size is a positive integer or a pair (height, width), got {size!r}")
    return pair


def area(x: Tensor, shape: Shape) -> Tensor:
    """Mean over the cells of a grid: [B, C, H, W] -> [B, C, h, w]; replicates where the grid is finer."""
    return F.interpolate(x, size=shape, mode="area")


def bicubic(x: Tensor, shape: Shape) -> Tensor:
    """Bicubic (a = -0.75), half-pixel centres, no antialiasing: [B, C, H, W] -> [B, C, h, w]."""
    return F.interpolate(x, size=shape, mode="bicubic")


def flatten(x: Tensor) -> Tensor:
    """Map [B, C, h, w] -> row-major tokens [B, h * w, C]."""
    return x.flatten(2).transpose(1, 2)


def bicubic_tokens(x: Tensor, source: Shape, target: Shape) -> Tensor:
    """Row-major tokens of any number of leading dimensions [..., h * w, C], resized -> [..., h' * w', C]."""
    return flatten(bicubic(unflatten(x.flatten(0, -3), source), target)).unflatten(0, x.shape[:-2])


def area_tokens(x: Tensor, source: Shape, target: Shape) -> Tensor:
    """Row-major tokens [..., H * W, C], averaged -> [..., h * w, C]."""
    return flatten(area(unflatten(x.flatten(0, -3), source), target)).unflatten(0, x.shape[:-2])


def unflatten(x: Tensor, shape: Shape) -> Tensor:
    """Row-major tokens [B, h * w, C] -> map [B, C, h, w]."""
    if x.shape[1] != shape[0] * shape[1]:
        raise ValueError(f"{x.shape[1]} tokens do not fill a map of {shape[0]} x {shape[1]}")
    return x.transpose(1, 2).unflatten(2, shape)
