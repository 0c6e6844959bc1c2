"""Next-scale prediction by ground truth: every map is the whole image at its size (FlexVAR, arXiv
2502.20313).

A map is predicted in one step; its slots are fed the previous map's codes, resized bicubically to its size.
Nothing depends on the number or the sizes of the maps, so a schedule is free at run time.
"""

from __future__ import annotations

from unified.orders.feeds import ResizeFeed
from unified.orders.plan import Plan, by_map
from unified.orders.resize import bicubic
from unified.orders.shapes import Shapes, last_map


def next_scale(shapes: Shapes) -> Plan:
    """One step per map; the last map alone is read later."""
    return Plan(
        shapes=shapes,
        labels=by_map(shapes),
        feed=ResizeFeed(shapes, bicubic),
        read=last_map(shapes),
        read_shapes=shapes[-1:],
    )
