"""Diagonal wavefront: all codes with the same row + column are written in one step (NAR, arXiv 2503.10696).

A slot is fed the mean of its upper and left neighbours, both one step older. An h x w map takes h + w - 1
steps.
"""

from __future__ import annotations

import torch

from unified.orders.feeds import GatherFeed
from unified.orders.plan import Plan
from unified.orders.shapes import Shapes


def diagonal(shapes: Shapes) -> Plan:
    """One step per anti-diagonal of a single map."""
    if len(shapes) != 1:
        raise ValueError(
            f"the diagonal order writes one map, got {len(shapes)}: use next_scale for a schedule"
        )
    height, width = shapes[0]
    slots = torch.arange(height * width).view(height, width)
    above = torch.stack([slots[1:].flatten(), slots[:-1].flatten()], dim=1)
    left = torch.stack([slots[:, 1:].flatten(), slots[:, :-1].flatten()], dim=1)
    return Plan(
        shapes=shapes,
        labels=(torch.arange(height)[:, None] + torch.arange(width)).flatten(),
        feed=GatherFeed.means(torch.cat([above, left]), height * width),
        read=slots.flatten(),
        read_shapes=shapes,
    )
