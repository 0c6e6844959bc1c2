"""Row by row, one code at a time: plain next-token prediction (as LlamaGen, arXiv 2406.06525).

A slot is fed the code before it; it carries its own position, so the network knows which code it is asked
for.
"""

from __future__ import annotations

import torch

from unified.orders.plan import Plan
from unified.orders.shapes import Shapes, area


def raster(shapes: Shapes) -> Plan:
    """One step per code. Several maps are written one after the other; the last is read."""
    slots = area(shapes)
    feed = torch.diag(torch.ones(slots - 1), -1)
    last = shapes[-1][0] * shapes[-1][1]
    read = torch.arange(slots - last, slots)
    return Plan(shapes=shapes, labels=torch.arange(slots), feed=feed, read=read, read_shapes=shapes[-1:])
