"""Row by row, one code at a time: plain next-token prediction (as LlamaGen, arXiv 2406.06525).

A slot is fed the code before it; it carries its own position, so the network knows which code it is asked
for. With `fed="own"` it is fed its own code, as in LlamaGen's published models: the next code is read out at
it, the first one at the position before the image. With `axis="columns"` the codes are written column by
column.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from unified.orders.feeds import GatherFeed, SelfFeed
from unified.orders.plan import Plan
from unified.orders.read_outs import BEFORE, ReadOuts
from unified.orders.shapes import Shapes, area, last_map

AXES = ("rows", "columns")
FED = ("before", "own")


def raster(shapes: Shapes, *, axis: str = "rows", fed: str = "before") -> Plan:
    """One step per code. Several maps are written one after the other; the last is read."""
    if axis not in AXES:
        raise ValueError(f"the raster order's axis must be {' or '.join(AXES)}, got {axis!r}")
    if fed not in FED:
        raise ValueError(f"the raster order's fed must be {' or '.join(FED)}, got {fed!r}")
    written, start = [], 0
    for height, width in shapes:
        slots = torch.arange(start, start + height * width).view(height, width)
        written.append((slots.T if axis == "columns" else slots).flatten())
        start += height * width
    sequence = torch.cat(written)  # the slots in the order in which they are written
    pairs = torch.stack([sequence[1:], sequence[:-1]], dim=1)
    plan = Plan(
        shapes=shapes,
        labels=sequence.argsort(),
        feed=GatherFeed.means(pairs, area(shapes)),
        read=last_map(shapes),
        read_shapes=shapes[-1:],
    )
    return plan if fed == "before" else replace(plan, feed=SelfFeed(plan.length), read_outs=_at(pairs))


def _at(pairs: Tensor) -> ReadOuts:
    """Read-outs of slots at others, by head 0: pairs (slot, source) [T - 1, 2]; the slot without a pair at
    the position before the image."""
    source = torch.full((len(pairs) + 1, 1), BEFORE)
    source[pairs[:, 0], 0] = pairs[:, 1]
    return ReadOuts(source, torch.zeros_like(source))
