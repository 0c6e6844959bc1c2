"""Rings around a cell that each sample names: what matters most in an image first, what lies around it after.

SemAIM (arXiv 2312.10457) predicts patches by their distance to the one that means most, so that the object is
the context of its background. There the cell is found in the image's own features, and ties are broken at
random; here it is part of the sample (from a saliency map, a layout, a click), since an image that is to be
written has no features yet, and cells at one distance are one step. A slot is fed the mean of the nearest
codes known by then, as in `masked`. The generic tests of orders (tests/unified/orders) run on it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unified.orders.feeds import GatherFeed
from unified.orders.masked import nearest
from unified.orders.plan import Plan
from unified.orders.shapes import Shape, Shapes, area


def rings(shapes: Shapes, *, data: tuple[int, ...] = (1, 1)) -> Plan:
    """One step for each distance from a cell of a single map. `data`: the row and the column of the cell,
    from 1 on. ValueError for more maps or a cell outside."""
    if len(shapes) != 1:
        raise ValueError(
            f"the order of rings writes one map, got {len(shapes)}: use next_scale for a schedule"
        )
    height, width = shapes[0]
    if len(data) != 2 or not 1 <= data[0] <= height or not 1 <= data[1] <= width:
        raise ValueError(f"rings need the row and column of a cell from (1, 1) to {shapes[0]}, got {data}")
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    squares = (rows - data[0] + 1) ** 2 + (columns - data[1] + 1) ** 2
    labels = squares.flatten().unique(return_inverse=True)[1]
    return Plan(
        shapes=shapes,
        labels=labels,
        feed=GatherFeed.means(nearest(shapes[0], labels), area(shapes)),
        read=torch.arange(area(shapes)),
        read_shapes=shapes,
    )


def salient(mapped: Tensor, shape: Shape) -> tuple[int, int]:
    """The cell of a map [h * w] with the largest value, as `data` of `rings`."""
    if mapped.numel() != shape[0] * shape[1]:
        raise ValueError(f"a map of {shape} has {shape[0] * shape[1]} values, got {mapped.numel()}")
    number = int(mapped.flatten().argmax())
    return number // shape[1] + 1, number % shape[1] + 1
