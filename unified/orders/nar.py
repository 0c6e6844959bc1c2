"""Next-neighbour prediction: an anti-diagonal of codes per step, each read out at its neighbours (NAR, arXiv
2503.10696).

A slot is fed its own code, one step after it is decided, and predicts the slots beside it: head 0 the one to
the right, head 1 the one below, head 2 the one in the next frame. A code with several such neighbours is
predicted by the mean of their logits, the first code by all heads at the position before the image. The
attention rule over these steps is the published mask: row + column of the key at most that of the query.
`tests/unified/orders/test_nar.py` compares with the definition.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unified.orders.feeds import SelfFeed
from unified.orders.plan import Plan
from unified.orders.read_outs import BEFORE, NOTHING, ReadOuts
from unified.orders.shapes import Shapes

AXES = (2, 1, 0)  # of [frame, row, column]: the axis along which each head predicts


def nar(shapes: Shapes, *, heads: int | None = None, shared: bool = False) -> Plan:
    """One step per anti-diagonal of a map, h + w - 1 in all; several maps of one size are the frames of a
    video, whose steps are frame + row + column. `heads`: how many there are, by default 2 for one map and 3
    for frames. `shared`: head 0 alone predicts in all directions, the paper's ablation. Maps of different
    sizes, or another number of heads than 2 or 3: ValueError."""
    if len(set(shapes)) > 1:
        raise ValueError(f"the nar order writes one map or frames of one size, got {shapes}: use next_scale")
    heads = (2 if len(shapes) == 1 else 3) if heads is None else heads
    if heads not in (2, 3):
        raise ValueError(f"the nar order has 2 heads (right, below) or 3 (next frame), got {heads}")
    height, width = shapes[0]
    slots = torch.arange(len(shapes) * height * width).view(-1, height, width)
    steps = torch.stack(torch.meshgrid(*map(torch.arange, slots.shape), indexing="ij")).sum(dim=0)
    source = torch.stack([_neighbour(slots, axis) for axis in AXES[:heads]], dim=1)
    source[0] = BEFORE
    return Plan(
        shapes=shapes,
        labels=steps.flatten(),
        feed=SelfFeed(slots.numel()),
        read=slots.flatten(),
        read_shapes=shapes,
        read_outs=ReadOuts(source, (torch.arange(heads) * (not shared)).expand_as(source)),
    )


def _neighbour(slots: Tensor, axis: int) -> Tensor:
    """[T]: of slots [frames, h, w], the one before along an axis, NOTHING at the border."""
    found = torch.full_like(slots, NOTHING)
    count = slots.shape[axis] - 1
    found.narrow(axis, 1, count).copy_(slots.narrow(axis, 0, count))
    return found.flatten()
