"""Diagonal wavefront: a row is begun `window` steps after the row above it (Diagonal Decoding, arXiv
2503.14070); with window 1 all codes with the same row + column are written in one step (NAR, arXiv
2503.10696).

A slot is fed the mean of its upper and left neighbours, both known earlier. An h x w map takes
(h - 1) * window + w steps.
"""

from __future__ import annotations

import torch

from unified.orders.feeds import GatherFeed
from unified.orders.plan import Plan
from unified.orders.shapes import Shapes


def diagonal(shapes: Shapes, *, window: int = 1) -> Plan:
    """One step per anti-diagonal of a single map. ValueError for a window outside 1 .. w (w: one code after
    the other)."""
    if len(shapes) != 1:
        raise ValueError(
            f"the diagonal order writes one map, got {len(shapes)}: use next_scale for a schedule"
        )
    height, width = shapes[0]
    if not 1 <= window <= width:
        raise ValueError(f"the window of the diagonal order must lie in 1 to {width} (columns), got {window}")
    slots = torch.arange(height * width).view(height, width)
    above = torch.stack([slots[1:].flatten(), slots[:-1].flatten()], dim=1)
    left = torch.stack([slots[:, 1:].flatten(), slots[:, :-1].flatten()], dim=1)
    return Plan(
        shapes=shapes,
        labels=(window * torch.arange(height)[:, None] + torch.arange(width)).flatten(),
        feed=GatherFeed.means(torch.cat([above, left]), height * width),
        read=slots.flatten(),
        read_shapes=shapes,
    )
