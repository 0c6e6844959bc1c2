"""Next-scale prediction by residual: every map adds to the sum of the maps before it (VAR, arXiv 2404.02905).

A map's slots are fed the running sum, each map brought to the last size (bicubic), brought down to theirs
(area). The READ part holds the codes of all maps, since only their sum is the image.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from unified.orders import resize
from unified.orders.feeds import ResidualFeed
from unified.orders.plan import Plan, by_map
from unified.orders.shapes import Shapes, area


def residual(shapes: Shapes) -> Plan:
    """One step per map; all maps are read later."""
    feed = ResidualFeed(shapes, lift=partial(_lifted, shapes), lower=resize.area)
    return Plan(
        shapes=shapes, labels=by_map(shapes), feed=feed, read=torch.arange(area(shapes)), read_shapes=shapes
    )


def _lifted(shapes: Shapes, vectors: Tensor, number: int) -> Tensor:
    """A map's vectors [..., h * w, C] at the last size."""
    return resize.bicubic(vectors, shapes[number], shapes[-1])
