"""Feeds: what the slots of an image are fed, derived from the embeddings of codes known at earlier steps.

A feed is an operator, never a [T, T] matrix, and the same one in teacher forcing, in sampling and for
published models, whose tokenizers give theirs (`tokenizers/feeds.py` holds those that go map by map).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from unified.tokenizers.feeds import Carry, MapFeed, ResidualFeed, ResizeFeed


class Feed(Protocol):
    """`starts` [T] bool, on the CPU: slots that are fed the start embedding, since nothing is known. `lag`: a
    slot can be run at the step that decides it (0), or one step later, since its own code is its input
    (1)."""

    starts: Tensor
    lag: int

    def inputs(self, values: Tensor, slots: Tensor, carry: Carry | None = None) -> Tensor:
        """Embeddings [..., T, C] of the codes known so far, ascending slots [n] on the CPU (those of a step,
        or all) -> what they are fed [..., n, C], of the same dtype. `carry`: an empty dictionary for each
        image, in which a feed may keep running state between its steps."""

    def check(self, labels: Tensor) -> None:
        """ValueError if, with these steps [T], a slot is fed a slot that is not known at an earlier step than
        it is run."""


class GatherFeed:
    """A slot is fed a weighted sum of a few others: `index` [T, k] and `weight` [T, k], 0 where there are
    fewer than k."""

    lag = 0

    def __init__(self, index: Tensor, weight: Tensor) -> None:
        if index.shape != weight.shape or index.ndim != 2:
            raise ValueError(
                f"index and weight must be [T, k], got {tuple(index.shape)} and {tuple(weight.shape)}"
            )
        self.index, self.weight = index, weight
        self.starts = (weight == 0).all(dim=1)

    @staticmethod
    def means(pairs: Tensor, length: int) -> GatherFeed:
        """Each of `length` slots is fed the mean of its sources. pairs [P, 2]: slot and source."""
        slots, sources = pairs[pairs[:, 0].argsort(stable=True)].unbind(dim=1)
        counts = slots.bincount(minlength=length)
        rank = torch.arange(len(slots)) - (counts.cumsum(0) - counts)[slots]
        index = torch.zeros(length, max(int(counts.max()), 1), dtype=torch.long)
        weight = torch.zeros(index.shape)
        index[slots, rank], weight[slots, rank] = sources, 1 / counts[slots].float()
        return GatherFeed(index, weight)

    def inputs(self, values: Tensor, slots: Tensor, carry: Carry | None = None) -> Tensor:
        exact = torch.promote_types(values.dtype, torch.float32)
        index, weight = _placed(self, values.device, exact)
        if len(slots) < len(index):
            chosen = slots.to(values.device)
            index, weight = index.index_select(0, chosen), weight.index_select(0, chosen)
        parts = [  # [..., n, C] of each source: k is small
            values.index_select(-2, sources).to(exact) * part[:, None]
            for sources, part in zip(index.unbind(1), weight.unbind(1), strict=True)
        ]
        return sum(parts[1:], parts[0]).to(values.dtype)

    def check(self, labels: Tensor) -> None:
        late = (self.weight != 0) & (labels[self.index] >= labels[:, None])
        if late.any():
            slot, place = late.nonzero()[0].tolist()
            source = int(self.index[slot, place])
            raise ValueError(f"slot {slot} is fed slot {source}, which is not known at an earlier step")


@lru_cache(maxsize=512)
def _placed(feed: GatherFeed, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        return feed.index.to(device), feed.weight.to(device=device, dtype=dtype)


class SelfFeed:
    """Each slot is fed its own code, one step after it is decided: what is read out there predicts other
    slots (NAR, arXiv 2503.10696)."""

    lag = 1

    def __init__(self, length: int) -> None:
        self.starts = torch.zeros(length, dtype=torch.bool)

    def inputs(self, values: Tensor, slots: Tensor, carry: Carry | None = None) -> Tensor:
        whole = len(slots) == len(self.starts)
        return values if whole else values.index_select(-2, slots.to(values.device))

    def check(self, labels: Tensor) -> None:
        """A slot is run after its own code is known: nothing can be amiss."""


__all__ = ["Carry", "Feed", "GatherFeed", "MapFeed", "ResidualFeed", "ResizeFeed", "SelfFeed"]
