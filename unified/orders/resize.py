"""Resizing a map of codes' vectors by small matrices: rows, then columns.

Up with bicubic (a = -0.75, half-pixel centres), down with area, the choices of VAR (arXiv 2404.02905). Both
are separable, so two 1-D matrices give what `torch.nn.functional.interpolate` gives (within 5e-6, in float32
at least, with a deterministic backward pass on GPUs too); for small maps one dense matrix is faster.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.orders.shapes import Shape

DENSE = 2**14  # weights of the largest matrix that is used whole (64 KB)


def resize(values: Tensor, source: Shape, target: Shape, mode: str) -> Tensor:
    """Vectors [..., h * w, C] of a map -> [..., h' * w', C] at the target's size, of the same dtype. `mode`:
    bicubic or area, as of `interpolate`."""
    if source == target:
        return values
    exact = torch.promote_types(values.dtype, torch.float32)
    matrices = _matrices(source, target, mode, exact, values.device)
    with _unrounded(values.device.type):
        out = values.to(exact)
        if len(matrices) == 1:
            return (matrices[0] @ out).to(values.dtype)
        rows, columns = matrices
        out = rows @ out.unflatten(-2, source).flatten(-2)  # [..., h', w * C]
        out = columns @ out.unflatten(-1, (source[1], values.shape[-1]))  # [..., h', w', C]
        return out.flatten(-3, -2).to(values.dtype)


def _unrounded(device: str) -> AbstractContextManager[Any]:
    """Without autocast: two products must not be rounded twice."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def bicubic(values: Tensor, source: Shape, target: Shape) -> Tensor:
    """`resize` up: vectors [..., h * w, C] -> [..., h' * w', C]."""
    return resize(values, source, target, "bicubic")


def area(values: Tensor, source: Shape, target: Shape) -> Tensor:
    """`resize` down, by averaging over each cell: vectors [..., h * w, C] -> [..., h' * w', C]."""
    return resize(values, source, target, "area")


@lru_cache(maxsize=2048)
def _matrices(
    source: Shape, target: Shape, mode: str, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, ...]:
    """One matrix [h' * w', h * w] if it is small, otherwise rows [h', h] and columns [w', w]."""
    with torch.inference_mode(False):  # they are used in training too
        pair = [_line(*sides, mode) for sides in zip(source, target, strict=True)]
        weights = source[0] * source[1] * target[0] * target[1]
        chosen = [_product(*pair)] if weights <= DENSE else pair
        return tuple(matrix.to(device=device, dtype=dtype) for matrix in chosen)


def _product(rows: Tensor, columns: Tensor) -> Tensor:
    """[h' * w', h * w]: the Kronecker product (`torch.kron` fails on some sides of 1)."""
    whole = rows[:, None, :, None] * columns[None, :, None, :]
    return whole.reshape(len(rows) * len(columns), -1)


def _line(source: int, target: int, mode: str) -> Tensor:
    """[target, source] float64: weights of `interpolate` along one side."""
    basis = torch.eye(source, dtype=torch.float64, device="cpu").view(source, 1, source, 1)
    return F.interpolate(basis, size=(target, 1), mode=mode).view(source, target).T.contiguous()
