"""Read-outs: where the backbone's states are from which a slot's code is predicted, and by which heads.

As a rule a slot is predicted at itself, by head 0. A self-fed order (NAR) predicts a slot at its neighbours,
by one head for each direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BEFORE = -1  # the position before the first slot: the last id of the image's header
NOTHING = -2  # no read-out: a slot with fewer than others is filled up with these


@dataclass(frozen=True, eq=False)
class ReadGroup:
    """Slots that are read out by the same heads: `slots` [g], their `source` [g, c], and the c `heads`."""

    slots: Tensor
    source: Tensor
    heads: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ReadOuts:
    """`source` [T, k]: slots, BEFORE or NOTHING, and `head` [T, k]: numbers of heads. A slot's code is
    predicted by the mean of the logits of its (source, head) pairs."""

    source: Tensor
    head: Tensor

    @staticmethod
    def at_slots(length: int) -> ReadOuts:
        """Every slot at itself, by head 0."""
        slots = torch.arange(length)[:, None]
        return ReadOuts(slots, torch.zeros_like(slots))

    def groups(self, slots: Tensor) -> tuple[ReadGroup, ...]:
        """Some slots [n], by the heads that read them out."""
        source, head = self.source[slots], self.head[slots]
        pattern = head.masked_fill(source == NOTHING, -1)
        found = []
        for heads in pattern.unique(dim=0):
            members, used = (pattern == heads).all(dim=1), heads >= 0
            found.append(ReadGroup(slots[members], source[members][:, used], tuple(heads[used].tolist())))
        return tuple(found)

    @property
    def share(self) -> Tensor:
        """[T, k] float32: each pair's weight in the mean."""
        used = (self.source != NOTHING).float()
        return used / used.sum(dim=1, keepdim=True)

    @property
    def own(self) -> bool:
        """Whether every slot is read out at itself, by head 0."""
        length = len(self.source)
        return (
            self.source.shape[1] == 1
            and bool((self.source[:, 0] == torch.arange(length)).all())
            and not self.head.any()
        )

    def check(self, labels: Tensor, lag: int) -> None:
        """ValueError unless every slot has a read-out, and each of them was run by the slot's step: labels
        [T], slots being run `lag` steps after that."""
        source = self.source
        if source.ndim != 2 or source.shape != self.head.shape or len(source) != len(labels):
            found = f"source {tuple(source.shape)} and head {tuple(self.head.shape)}"
            raise ValueError(f"a plan of {len(labels)} slots needs read-outs [{len(labels)}, k], got {found}")
        if source.min() < NOTHING or source.max() >= len(labels) or self.head.min() < 0:
            raise ValueError("read-outs need sources among the slots, BEFORE or NOTHING, and heads from 0 on")
        if (source == NOTHING).all(dim=1).any():
            slot = int((source == NOTHING).all(dim=1).nonzero()[0])
            raise ValueError(f"slot {slot} is read out nowhere")
        late = (source >= 0) & (labels[source.clamp(min=0)] + lag > labels[:, None])
        if late.any():
            slot, place = late.nonzero()[0].tolist()
            raise ValueError(
                f"slot {slot} is read out at slot {int(source[slot, place])}, which is not run by its step"
            )


OWN = ReadOuts.at_slots(0)  # of a plan: every slot at itself
