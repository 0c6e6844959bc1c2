"""Blocks of a map, one after another, row by row: each is written in one step, after all before it.

The cells of xAR (arXiv 2502.20388) and the blocks of ACDiT (arXiv 2412.07720). A side as long as the map
makes the whole image one block. A slot is fed the code at its place in the block before (the mean of several
where that block is larger), so that nothing that is known is lost; all else it attends to. A head that
denoises the slots of a step together (`block_flow`) makes a block one value. The generic tests of orders
(tests/unified/orders) run on it.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from unified.orders.feeds import GatherFeed
from unified.orders.plan import Plan
from unified.orders.shapes import Shapes, area

Block = tuple[range, range]  # its rows and columns


def blocks(shapes: Shapes, *, side: int = 2) -> Plan:
    """One step for every `side` x `side` block of a single map; blocks at the lower and the right border may
    be smaller. ValueError for more maps or a side below 1."""
    if len(shapes) != 1:
        raise ValueError(f"the blocks order writes one map, got {len(shapes)}: use next_scale for a schedule")
    if side < 1:
        raise ValueError(f"side must be at least 1, got {side}")
    height, width = shapes[0]
    cut = [
        (range(top, min(top + side, height)), range(left, min(left + side, width)))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
    labels = torch.empty(height, width, dtype=torch.long)
    for number, (rows, columns) in enumerate(cut):
        labels[rows.start : rows.stop, columns.start : columns.stop] = number
    pairs = [pair for before, block in pairwise(cut) for pair in _fed(before, block, width)]
    return Plan(
        shapes=shapes,
        labels=labels.flatten(),
        feed=GatherFeed.means(torch.tensor(pairs, dtype=torch.long).view(-1, 2), area(shapes)),
        read=torch.arange(area(shapes)),
        read_shapes=shapes,
    )


def _fed(before: Block, block: Block, width: int) -> list[tuple[int, int]]:
    """(slot, source) of a block whose slots are fed those at their places in the block before it."""
    rows, columns = (_spread(len(old), len(new)) for old, new in zip(before, block, strict=True))
    return [
        (block[0][i] * width + block[1][j], before[0][k] * width + before[1][m])
        for i, k in rows
        for j, m in columns
    ]


def _spread(old: int, new: int) -> list[tuple[int, int]]:
    """Of `new` places, each with the places among `old` ones that it covers: every old one has a new one."""
    return [(i, k) for i in range(new) for k in range(i * old // new, max(-(-(i + 1) * old // new), 1))]
