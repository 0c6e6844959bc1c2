"""Next-scale prediction by residual: every map adds to the sum of the maps before it (VAR, arXiv 2404.02905).

A map's slots are fed the running sum, each map brought to the last size (bicubic), brought down to theirs
(area). The READ part holds the codes of all maps, since only their sum is the image.
"""

from __future__ import annotations

import torch

from unified.orders.plan import Plan
from unified.orders.resize import resize_matrix
from unified.orders.shapes import Shapes, area


def residual(shapes: Shapes) -> Plan:
    """One step per map; all maps are read later."""
    slots = area(shapes)
    labels = torch.cat([torch.full((h * w,), step) for step, (h, w) in enumerate(shapes)])
    lifted = torch.cat([resize_matrix(shape, shapes[-1], "bicubic") for shape in shapes], dim=1)
    feed = torch.zeros(slots, slots)
    start = 0
    for h, w in shapes:
        if start:
            down = resize_matrix(shapes[-1], (h, w), "area")
            feed[start : start + h * w, :start] = down @ lifted[:, :start]
        start += h * w
    return Plan(shapes=shapes, labels=labels, feed=feed, read=torch.arange(slots), read_shapes=shapes)
