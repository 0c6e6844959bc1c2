"""Resizing a map of codes as a matrix, so that what a slot is fed stays pure data.

Up with bicubic (a = -0.75, half-pixel centres), down with area, the choices of VAR (arXiv 2404.02905).
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.orders.shapes import Shape


@lru_cache(maxsize=512)
def resize_matrix(source: Shape, target: Shape, mode: str) -> Tensor:
    """[target cells, source cells]: weights of `torch.nn.functional.interpolate` with this mode."""
    cells = source[0] * source[1]
    basis = torch.eye(cells, dtype=torch.float64).view(cells, 1, *source)
    resized = F.interpolate(basis, size=target, mode=mode)
    return resized.view(cells, -1).T.contiguous().float()
