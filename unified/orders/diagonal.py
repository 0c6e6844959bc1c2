"""Diagonal wavefront: all codes with the same row + column are written in one step (NAR, arXiv 2503.10696).

A slot is fed the mean of its upper and left neighbours, both one step older. An h x w map takes h + w - 1
steps.
"""

from __future__ import annotations

import torch

from unified.orders.plan import Plan
from unified.orders.shapes import Shapes


def diagonal(shapes: Shapes) -> Plan:
    """One step per anti-diagonal of a single map."""
    if len(shapes) != 1:
        raise ValueError(
            f"the diagonal order writes one map, got {len(shapes)}: use next_scale for a schedule"
        )
    height, width = shapes[0]
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    above = (rows[:, None] - rows[None, :] == 1) & (columns[:, None] == columns[None, :])
    left = (columns[:, None] - columns[None, :] == 1) & (rows[:, None] == rows[None, :])
    feed = (above | left).float()
    feed = feed / feed.sum(dim=1, keepdim=True).clamp(min=1)
    read = torch.arange(height * width)
    return Plan(shapes=shapes, labels=rows + columns, feed=feed, read=read, read_shapes=shapes)
