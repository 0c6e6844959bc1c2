"""The one attention rule. No other code builds masks.

Position i sees position j when they belong to the same sample, j's value is known no later than i's step, and
j is not part of another image's WRITE segment. This one rule is causal language modelling, VAR's block-causal
mask, bidirectional reading of an image, and packing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.stream.segments import Kind

PADDING = -1  # the `sample` of a position that nothing real may see


@dataclass(frozen=True)
class Index:
    """Four small integers for every position, each [B, T]: sample (packing; PADDING for none), segment, kind
    (`Kind`) and label (the step at which the position's value is known)."""

    sample: Tensor
    segment: Tensor
    kind: Tensor
    label: Tensor

    def to(self, device: torch.device | str) -> Index:
        return Index(*(field.to(device) for field in self.fields()))

    def fields(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.sample, self.segment, self.kind, self.label

    def map(self, function: Callable[[Any], Any]) -> Index:
        return Index(*(function(field) for field in self.fields()))

    def cat(self, after: Index) -> Index:
        pairs = zip(self.fields(), after.fields(), strict=True)
        return Index(*(torch.cat(pair, dim=1) for pair in pairs))

    def filled(self, multiple: int) -> Index:
        """Filled up with padding to a multiple of so many positions."""
        rows, length = self.sample.shape
        return self.cat(Index.padding(rows, -length % multiple).to(self.sample.device))

    @staticmethod
    def padding(rows: int, length: int) -> Index:
        """Positions that belong to no sample."""
        empty = torch.zeros(rows, length, dtype=torch.long)
        return Index(torch.full_like(empty, PADDING), empty, empty, empty)


def attends(query: Index, key: Index) -> Tensor:
    """[B, Tq, Tk] bool: which key positions each query position sees. Padding sees padding alone, so that no
    row of the softmax is empty."""
    same_sample = query.sample[:, :, None] == key.sample[:, None, :]
    known = key.label[:, None, :] <= query.label[:, :, None]
    same_segment = query.segment[:, :, None] == key.segment[:, None, :]
    return same_sample & known & ((key.kind != Kind.WRITE)[:, None, :] | same_segment)


def visible(query: Index, key: Index) -> Tensor | None:
    """The mask for queries [B, n] that come after (and are part of) the keys [B, K]; both may be padded.
    [B, 1, 1, K] where all real queries of a row belong to one step, [B, 1, n, K] otherwise, None where
    every query sees every key. Queries that are padding see everything: what comes of them is not used."""
    asked, held = (index.map(Tensor.numpy) for index in (query, key))  # small: quicker than tensors
    if query.sample.shape[1] > 1 and _one_step(asked):
        asked = asked.map(lambda field: field[:, :1])
    seen: Any = attends(asked, held)
    if seen.all():
        return None
    seen |= (asked.sample == PADDING)[..., None]
    return None if seen.all() else torch.from_numpy(seen)[:, None]


def _one_step(query: Index) -> bool:
    """Whether all real positions of a row share sample, segment and label, the first being real."""
    padding = query.sample == PADDING
    fields = (query.sample, query.segment, query.label)
    return all(bool(((field == field[:, :1]) | padding).all()) for field in fields)


@dataclass(frozen=True)
class Ancestry:
    """Of a pass over nodes of a draft tree (SpecInfer, Miao et al., arXiv 2305.09781): besides the rule, of
    the nodes each position sees its ancestors and itself. `before` [r]: how many nodes each row has run
    already, as its latest entries. `seen` [r, n, w] bool: which of the w entries from the first of these on
    each of the pass's positions sees; all, where it is padding."""

    before: np.ndarray
    seen: np.ndarray

    def over(self, starts: np.ndarray, keys: int) -> np.ndarray:
        """[r, n, keys] bool: which of so many entries the positions may see, those of the pass coming after
        each row's first `starts` [r]."""
        rows, count, width = self.seen.shape
        columns = (starts - self.before)[:, None] + np.arange(width)
        row, node = (columns < keys).nonzero()
        found = np.ones((rows, count, keys), dtype=bool)
        found[row, :, columns[row, node]] = self.seen[row, :, node]
        return found


@dataclass(frozen=True)
class Seen:
    """Which keys are seen: `mask` [R or 1, 1, n or 1, m] bool (None: all). `lengths` [R] int32, if each row
    sees just its first so many keys: then `mask` says the same."""

    mask: Tensor | None = None
    lengths: Tensor | None = None


EVERYTHING = Seen()


# The rule block by block (FlexAttention, GPUs) --------------------------------------------------------------

BLOCK = 128  # positions; FlexAttention's own default


def mask_mod(index: Index) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The same rule as a FlexAttention `mask_mod` over one batch."""
    write = int(Kind.WRITE)  # traced code compares a tensor with an enumeration wrongly, without an error
    sample, segment, kind, label = (field.int() for field in index.fields())

    def rule(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same_sample = sample[batch, query] == sample[batch, key]
        known = label[batch, key] <= label[batch, query]
        same_segment = segment[batch, query] == segment[batch, key]
        return same_sample & known & ((kind[batch, key] != write) | same_segment)

    return rule


def block_mask(index: Index) -> object:
    """The rule as a FlexAttention block mask [B, 1, T, T], on the device of the index. A pair of blocks is
    looked at if their samples and labels could let a pair of positions see one another. That takes bounds
    alone: no table of pairs is built, and nothing need be compiled."""
    from torch.nn.attention.flex_attention import BlockMask

    rows, length = index.sample.shape
    index = index.filled(BLOCK)
    sample, label = (field.view(rows, -1, BLOCK) for field in (index.sample, index.label))
    padding = sample == PADDING  # sees itself; the samples around it have bounds of their own
    first, last = sample.masked_fill(padding, torch.iinfo(sample.dtype).max).amin(dim=2), sample.amax(dim=2)
    overlap = (first[:, :, None] <= last[:, None, :]) & (first[:, None, :] <= last[:, :, None])
    overlap |= padding.any(dim=2)[:, :, None] & padding.any(dim=2)[:, None, :]
    known = label.amin(dim=2)[:, None, :] <= label.amax(dim=2)[:, :, None]
    needed = overlap & known  # [B, T / BLOCK, T / BLOCK]
    order = needed.int().argsort(dim=2, descending=True, stable=True)
    return BlockMask.from_kv_blocks(
        needed.sum(dim=2, dtype=torch.int32)[:, None],
        order.int()[:, None],
        BLOCK_SIZE=BLOCK,
        mask_mod=mask_mod(index),
        seq_lengths=(length, length),
    )
