"""Row by row, one code at a time: plain next-token prediction (as LlamaGen, arXiv 2406.06525).

A slot is fed the code before it; it carries its own position, so the network knows which code it is asked
for. With `axis="columns"` the codes are written column by column.
"""

from __future__ import annotations

import torch

from unified.orders.feeds import GatherFeed
from unified.orders.plan import Plan
from unified.orders.shapes import Shapes, area, last_map

AXES = ("rows", "columns")


def raster(shapes: Shapes, *, axis: str = "rows") -> Plan:
    """One step per code. Several maps are written one after the other; the last is read."""
    if axis not in AXES:
        raise ValueError(f"the raster order's axis must be {' or '.join(AXES)}, got {axis!r}")
    written, start = [], 0
    for height, width in shapes:
        slots = torch.arange(start, start + height * width).view(height, width)
        written.append((slots.T if axis == "columns" else slots).flatten())
        start += height * width
    sequence = torch.cat(written)  # the slots in the order in which they are written
    pairs = torch.stack([sequence[1:], sequence[:-1]], dim=1)
    return Plan(
        shapes=shapes,
        labels=sequence.argsort(),
        feed=GatherFeed.means(pairs, area(shapes)),
        read=last_map(shapes),
        read_shapes=shapes[-1:],
    )
