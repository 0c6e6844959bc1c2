"""Masked decoding: the codes of one map in a random order, more of them at every step (MaskGIT, arXiv
2202.04200).

After step s of S a share sin(pi s / (2 S)) of the codes is known at most, in MaskGIT's cosine schedule; which
ones, a permutation says. A slot is fed the mean of the nearest codes known by then, and attends to all of
them. Different from MaskGIT: a state, once computed, is not computed again, so that keys and values can be
cached and one pass gives the exact likelihood; and the order is drawn beforehand, not by confidence.
The generic tests of orders (tests/unified/orders) run on it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unified.orders.feeds import GatherFeed
from unified.orders.plan import Plan
from unified.orders.shapes import Shapes, area

SOURCES = 4  # nearest known codes that a slot is fed


def masked(shapes: Shapes, *, steps: int = 8, data: tuple[int, ...] = (1,)) -> Plan:
    """At most `steps` steps for a single map. `data`: one number from 1 on, which permutation. ValueError for
    more maps, other data, or less than one step."""
    if len(shapes) != 1:
        raise ValueError(f"the masked order writes one map, got {len(shapes)}: use next_scale for a schedule")
    if len(data) != 1 or data[0] < 1:
        raise ValueError(f"the masked order takes one number of a permutation, from 1 on, got {data}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    count = area(shapes)
    permutation = torch.randperm(count, generator=torch.Generator().manual_seed(data[0]))
    labels = torch.empty(count, dtype=torch.long)
    labels[permutation] = _groups(count, steps)
    return Plan(
        shapes=shapes,
        labels=labels,
        feed=GatherFeed.means(nearest(shapes[0], labels), count),
        read=torch.arange(count),
        read_shapes=shapes,
    )


def _groups(count: int, steps: int) -> Tensor:
    """[count]: the step of the n-th code to be known. Every step has at least one code, and the number of
    codes still unknown follows the cosine."""
    left = [math.floor(count * math.cos(math.pi * step / (2 * steps))) for step in range(1, steps)]
    bounds = sorted({count - number for number in left if 0 < number < count})
    return torch.bucketize(torch.arange(count), torch.tensor(bounds), right=True)


def nearest(shape: tuple[int, int], labels: Tensor) -> Tensor:
    """Pairs (slot, source) [P, 2]: the nearest slots known before each slot, ties by number."""
    height, width = shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    distance = (places[:, None] - places[None]).square().sum(dim=-1)
    known = labels[None] < labels[:, None]
    ranked = torch.where(known, distance, height**2 + width**2 + 1).argsort(dim=1, stable=True)
    most = known.sum(dim=1).clamp(max=SOURCES)
    chosen = torch.arange(ranked.shape[1]) < most[:, None]
    slots = torch.arange(len(labels))[:, None].expand_as(ranked)
    return torch.stack([slots[chosen], ranked[chosen]], dim=1)
