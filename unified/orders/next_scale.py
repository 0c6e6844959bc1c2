"""Next-scale prediction by ground truth: every map is the whole image at its size (FlexVAR, arXiv
2502.20313).

A map is predicted in one step; its slots are fed the previous map's codes, resized bicubically to its size.
Nothing depends on the number or the sizes of the maps, so a schedule is free at run time.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from unified.orders.plan import Plan
from unified.orders.resize import resize_matrix
from unified.orders.shapes import Shapes, area


def next_scale(shapes: Shapes) -> Plan:
    """One step per map; the last map alone is read later."""
    slots = area(shapes)
    labels = torch.cat([torch.full((h * w,), step) for step, (h, w) in enumerate(shapes)])
    feed = torch.zeros(slots, slots)
    start = 0
    for source, target in pairwise(shapes):
        middle = start + source[0] * source[1]
        feed[middle : middle + target[0] * target[1], start:middle] = resize_matrix(source, target, "bicubic")
        start = middle
    read = torch.arange(start, slots)
    return Plan(shapes=shapes, labels=labels, feed=feed, read=read, read_shapes=shapes[-1:])
