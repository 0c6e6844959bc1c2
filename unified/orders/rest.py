"""Some codes one after the other, then all others in a single step.

The tasks of TokenUnify (arXiv 2405.16847) beside the next token: all tokens that follow a cut, and random
tokens of a masked image, predicted together from the ones that are shown. The codes before the cut are those
that are shown: each is fed the one before it, so that all of them lie in the keys that the rest attends to,
and the rest is fed the last. Different from the paper, what is shown sees no later code, and what is
predicted together sees no code of its own step. The generic tests of orders (tests/unified/orders) run on it.
"""

from __future__ import annotations

import torch

from unified.orders.feeds import GatherFeed
from unified.orders.plan import Plan
from unified.orders.shapes import Shape, Shapes, area


def rest(shapes: Shapes, *, data: tuple[int, ...] = ()) -> Plan:
    """`data`: row and column, from 1 on, of the first code after the cut, in rows; then all codes before it
    come first. A third number, from 1 on, names a permutation: then as many codes come first in its order.
    Without data half of the codes come first.
    ValueError for more maps, or for a cut that leaves nothing on one side."""
    if len(shapes) != 1:
        raise ValueError(
            f"the order of a rest writes one map, got {len(shapes)}: use next_scale for a schedule"
        )
    count, length = _count(shapes[0], data), area(shapes)
    sequence = torch.arange(length)
    if len(data) == 3:
        sequence = torch.randperm(length, generator=torch.Generator().manual_seed(data[2]))
    labels = torch.empty(length, dtype=torch.long)
    labels[sequence] = torch.arange(length).clamp(max=count)
    sources = torch.arange(length - 1).clamp(max=count - 1)
    pairs = torch.stack([sequence[1:], sequence[sources]], dim=1)
    return Plan(
        shapes=shapes,
        labels=labels,
        feed=GatherFeed.means(pairs, length),
        read=torch.arange(length),
        read_shapes=shapes,
    )


def cut_at(shape: Shape, count: int) -> tuple[int, int]:
    """`data` of the cut after `count` codes of a map."""
    return count // shape[1] + 1, count % shape[1] + 1


def _count(shape: Shape, data: tuple[int, ...]) -> int:
    """How many codes come first."""
    height, width = shape
    if not data:
        return max(height * width // 2, 1)
    inside = len(data) in (2, 3) and 1 <= data[0] <= height and 1 <= data[1] <= width
    if not inside or data[:2] == (1, 1) or min(data) < 1:
        raise ValueError(
            f"a cut needs row and column of a code of {shape} after the first, and perhaps the number of a "
            f"permutation, got {data}"
        )
    return (data[0] - 1) * width + data[1] - 1
