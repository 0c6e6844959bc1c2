"""Infinity's rotary embedding of rows and columns: half of a head's pairs turn with the row, half with the
column. The same place of the image has about the same angles in every map.

Source: FoundationVision/Infinity (MIT), infinity/models/basic.py; arXiv 2412.04431. Different from the
published code: tables are made when a schedule is used, for any schedule.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.checkpoints.infinity_schedules import full_grid
from unified.orders.shapes import Shape, Shapes

BASE = 10_000.0
EDGE = 128  # cells of the longer side of the table that mode 1 resizes
CELLS, RESIZED, STRETCHED = 0, 1, 2  # modes, as of `rope2d_normalized_by_hw`


@lru_cache(maxsize=32)
def rotations(shapes: Shapes, width: int, mode: int = STRETCHED) -> tuple[Tensor, Tensor]:
    """cos and sin [L, width / 2] for the slots of some maps, heads being of this width.

    Mode 2 (released): coordinates are stretched to the last map of the one-megapixel schedule of the aspect
    ratio and rounded, half to even. Mode 0: row and column as they are. Mode 1: cos and sin of a grid with
    128 cells along its longer side, resized (bilinear, corners aligned) to each map."""
    with torch.inference_mode(False):
        tables = [_of_map(shape, full_grid(shapes), width, mode) for shape in shapes]
        cos, sin = torch.cat(tables, dim=1)
        return cos, sin


def _of_map(shape: Shape, full: Shape, width: int, mode: int) -> Tensor:
    """[2, h * w, width / 2]: cos and sin."""
    if mode == RESIZED:
        return _resized(shape, full, width)
    rows, columns = (torch.arange(side, dtype=torch.float32, device="cpu") for side in shape)
    if mode == STRETCHED:
        rows = (rows * (full[0] / shape[0])).round()
        columns = (columns * (full[1] / shape[1])).round()
    return grid_angles(rows, columns, width).flatten(1, 2)


def _resized(shape: Shape, full: Shape, width: int) -> Tensor:
    longer = max(full)
    rows, columns = (
        torch.arange(int(EDGE / longer * side) if side < longer else EDGE, dtype=torch.float32, device="cpu")
        for side in full
    )
    grid = grid_angles(rows, columns, width)
    small = F.interpolate(grid.permute(0, 3, 1, 2), size=shape, mode="bilinear", align_corners=True)
    return small.permute(0, 2, 3, 1).flatten(1, 2)


def grid_angles(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """[2, h, w, width / 2]: cos and sin of rows [h] in the first half of the angles, columns [w] after."""
    half = width // 2
    exponents = torch.arange(0, half, 2, dtype=torch.float32, device="cpu") / half
    frequencies = 1.0 / BASE**exponents
    shape = (len(rows), len(columns), len(frequencies))
    by_row = torch.outer(rows, frequencies)[:, None].expand(shape)
    by_column = torch.outer(columns, frequencies)[None].expand(shape)
    angles = torch.cat([by_row, by_column], dim=-1)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Neighbouring pairs of channels of x [..., n, C] turned by angles of cos and sin [n, C / 2], in float32
    at least."""
    exact = torch.promote_types(x.dtype, torch.float32)
    even, odd = x.to(exact).unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([cos * even - sin * odd, sin * even + cos * odd], dim=-1)
    return turned.flatten(-2).to(x.dtype)
