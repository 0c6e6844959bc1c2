"""Orders of an image's patches from a map of how much each one means, and who sees whom under them.

Source: SemAIM, arXiv 2312.10457; skyoux/SemAIM (MIT). An order is a number for each patch [B, L], smaller
ones earlier; equal ones see each other in the content stream. Uniform draws are given from outside. Published
names: "zigzag" is row by row, "raster" turns back at the end of every row. Tests:
tests/unified/checkpoints/semaim/test_semaim.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.layout.attention import Index, attends
from unified.orders.shapes import Shape

TIES = 1e-3  # of the draw that breaks ties between patches at one distance
SQUARES = ((6, 8), (4, 10), (2, 12))  # of `centre_out`, on the published grid of 14 x 14
Boxes = Sequence[Sequence[Sequence[int]]]


# Maps -------------------------------------------------------------------------------------------------------


def class_map(tokens: Tensor) -> Tensor:
    """Tokens [B, 1 + L, D], the class token first -> the softmax over the patches of their cosine to it, [B,
    L]."""
    return _cosines(tokens[:, 0], tokens[:, 1:]).softmax(dim=-1)


def mean_map(tokens: Tensor) -> Tensor:
    """The same, of the mean of the patches' tokens in place of the class token."""
    return _cosines(tokens[:, 1:].mean(dim=1), tokens[:, 1:]).softmax(dim=-1)


def teacher_map(tokens: Tensor) -> Tensor:
    """The cosines themselves, of a teacher's tokens, scaled to [0, 1] image by image."""
    found = _cosines(tokens[:, 0], tokens[:, 1:])
    least, most = found.amin(dim=1, keepdim=True), found.amax(dim=1, keepdim=True)
    return (found - least) / (most - least + 1e-6)


def _cosines(one: Tensor, many: Tensor) -> Tensor:
    return (F.normalize(many, dim=-1) @ F.normalize(one, dim=-1)[..., None])[..., 0]


# Orders -----------------------------------------------------------------------------------------------------


def rings(mapped: Tensor, grid: Shape, uniform: Tensor) -> Tensor:
    """By the distance to the patch with the largest value of a map [B, L], in patches; `uniform` [B, L] in
    [0, 1) breaks ties. The published order, "attention centre"."""
    centre = _cells(mapped.argmax(dim=1), grid)  # [B, 2]
    every = _cells(torch.arange(mapped.shape[1], device=mapped.device), grid)
    return (every - centre[:, None]).float().norm(dim=-1) + TIES * uniform


def by_map(mapped: Tensor) -> Tensor:
    """The largest values first."""
    return 1 - mapped


def centre_out(uniform: Tensor, squares: Sequence[tuple[int, int]] = SQUARES) -> Tensor:
    """From squares around the middle outwards, at random within each: `uniform` [B, h, w]."""
    boxes = torch.tensor([[pair] for pair in squares]).expand(-1, len(uniform), -1)
    return _inwards(uniform, boxes, boxes)


def boxes_around(uniform: Tensor, rows: Tensor, columns: Tensor, boxes: Boxes) -> Tensor:
    """From boxes around a cell outwards, at random within each: `uniform` [B, h, w]; `rows` and `columns` [B]
    of the cells; `boxes`: for each coordinate, the ranges (first, last + 1) of its boxes."""
    table = torch.tensor(boxes)  # [side, boxes, 2]
    if table.ndim != 3 or table.shape[2] != 2 or len(table) <= int(torch.stack([rows, columns]).max()):
        raise ValueError(f"boxes must be ranges for each of {max(uniform.shape[1:])} coordinates")
    return _inwards(uniform, table[rows].transpose(0, 1), table[columns].transpose(0, 1))


def _inwards(uniform: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """uniform [B, h, w] less the number of boxes that hold a cell: ranges [boxes, B, 2] of rows and of
    columns -> [B, h w]."""
    found = uniform.clone()
    for down, across in zip(rows, columns, strict=True):
        found -= (
            _inside(uniform.shape[1], down)[:, :, None] & _inside(uniform.shape[2], across)[:, None]
        ).float()
    return found.flatten(1)


def _inside(count: int, ranges: Tensor) -> Tensor:
    """[B, count] bool: which coordinates lie in ranges [B, 2]."""
    places = torch.arange(count)
    return (places >= ranges[:, :1]) & (places < ranges[:, 1:])


def row_by_row(grid: Shape) -> Tensor:
    """[1, L]: published as "zigzag"."""
    return torch.arange(grid[0] * grid[1], dtype=torch.float32)[None]


def snake(grid: Shape) -> Tensor:
    """[1, L]: every second row backwards; published as "raster"."""
    found = row_by_row(grid).view(grid).clone()
    found[1::2] = found[1::2].flip(1)
    return found.flatten()[None]


def _cells(numbers: Tensor, grid: Shape) -> Tensor:
    """Rows and columns [..., 2]."""
    return torch.stack([numbers // grid[1], numbers % grid[1]], dim=-1)


# Who sees whom ----------------------------------------------------------------------------------------------


def streams(order: Tensor) -> tuple[Index, Index]:
    """The content stream and the query stream of an order [B, L], each with the class token first, under the
    project's attention rule: content sees content that is not later than itself, queries see what is earlier,
    all see the class token, which sees itself alone."""
    rank = (order[:, None, :] < order[:, :, None]).sum(dim=2)  # equal where the order is
    content = F.pad(rank + 1, (1, 0))
    query = F.pad(rank, (1, 0))
    zero = torch.zeros_like(content)
    return Index(zero, zero, zero, content), Index(zero, zero, zero, query)


def masks(order: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 1 + L, 1 + L] bool each: which content every content token and every query sees."""
    content, query = streams(order)
    return attends(content, content), attends(query, content)
