"""Blocks of a map, one after another, row by row: each is written in one step, after all before it.

The cells of xAR (arXiv 2502.20388) and the blocks of ACDiT (arXiv 2412.07720). A side as long as the map
makes the whole image one block. A slot is fed the mean of the nearest codes known by then, as in `masked`; a
head that denoises the slots of a step together (`block_flow`) makes a block one value. The generic tests of
orders (tests/unified/orders) run on it.
"""

from __future__ import annotations

import torch

from unified.orders.feeds import GatherFeed
from unified.orders.masked import nearest
from unified.orders.plan import Plan
from unified.orders.shapes import Shapes, area


def blocks(shapes: Shapes, *, side: int = 2) -> Plan:
    """One step for every `side` x `side` block of a single map; blocks at the lower and the right border may
    be smaller. ValueError for more maps or a side below 1."""
    if len(shapes) != 1:
        raise ValueError(f"the blocks order writes one map, got {len(shapes)}: use next_scale for a schedule")
    if side < 1:
        raise ValueError(f"side must be at least 1, got {side}")
    height, width = shapes[0]
    rows, columns = torch.arange(height) // side, torch.arange(width) // side
    labels = (rows[:, None] * (int(columns[-1]) + 1) + columns).flatten()
    return Plan(
        shapes=shapes,
        labels=labels,
        feed=GatherFeed.means(nearest(shapes[0], labels), area(shapes)),
        read=torch.arange(area(shapes)),
        read_shapes=shapes,
    )
