"""The one attention rule. No other code builds masks.

Position i sees position j when they belong to the same sample, j's value is known no later than i's step, and
j is not part of another image's WRITE segment. This one rule is causal language modelling, VAR's block-causal
mask, bidirectional reading of an image, and packing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

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

    def map(self, function: Callable[[Tensor], Tensor]) -> Index:
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
    """The mask [B, 1, Tq, Tk] for queries that come after (and are part of) the keys, or None where every
    query sees every key: then plain attention is enough, which a few reductions tell without building the
    mask."""
    first = key.sample[0, 0]
    plain = (
        bool((key.sample == first).all())
        and bool((key.label.amax(dim=1) <= query.label.amin(dim=1)).all())
        and not bool(((key.kind == Kind.WRITE) & (key.segment != query.segment[:, :1])).any())
    )
    return None if plain else attends(query, key)[:, None]


# Attention block by block (FlexAttention, GPUs) -------------------------------------------------------------

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


def attend_by_block(
    module: object,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: object,
    scaling: float,
    blocks: object,
    **_: object,
) -> tuple[Tensor, None]:
    """An attention function of transformers: query [B, H, T, D], key and value [B, G, T, D] -> [B, T, H, D].
    Blocks of pairs that no sample holds are skipped."""
    from torch.nn.attention.flex_attention import flex_attention

    run: Any = flex_attention if torch.compiler.is_compiling() else _compiled(flex_attention)
    q, k = query.to(value.dtype), key.to(value.dtype)  # normalisation has left them in float32
    out = run(q, k, value, block_mask=blocks, scale=scaling, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2).contiguous(), None


@cache
def _compiled(function: Any) -> Any:
    return torch.compile(function, dynamic=False)


# Attention sample by sample ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pieces:
    """The samples of a batch [B, T] as runs of its B * T positions laid end to end: `lengths`, and for each
    what is added to its scores, [t, t] (0 where seen, -inf where not)."""

    lengths: list[int]
    masks: list[Tensor]

    @staticmethod
    def of(index: Index, dtype: torch.dtype) -> Pieces:
        """Runs of padding are pieces too."""
        rows, length = index.sample.shape
        flat = index.map(lambda field: field.reshape(1, -1))
        place = torch.arange(rows, device=flat.sample.device).repeat_interleave(length)
        pairs = torch.stack([place, flat.sample[0]])
        borders = (pairs[:, 1:] != pairs[:, :-1]).any(dim=0).nonzero()[:, 0] + 1
        ends = [*borders.tolist(), rows * length]
        lengths = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        masks = []
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            part = flat.map(lambda field, span=slice(start, end): field[:, span])  # type: ignore[misc]
            seen = attends(part, part)[0]
            masks.append(
                torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
            )
        return Pieces(lengths, masks)


@torch.compiler.disable
def attend_by_sample(
    module: object,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: object,
    scaling: float,
    pieces: Pieces,
    **_: object,
) -> tuple[Tensor, None]:
    """An attention function of transformers: query [B, H, T, D], key and value [B, G, T, D] -> [B, T, H, D].

    Packed rows are mostly pairs of positions of different samples, which a dense mask computes and throws
    away; here each sample is one small product.
    """
    (rows, heads, length, width), groups = query.shape, key.shape[1]
    dtype = pieces.masks[0].dtype
    q, k, v = (x.to(dtype).transpose(0, 1).reshape(x.shape[1], -1, width) for x in (query, key, value))
    found = []
    parts = zip(*(x.split(pieces.lengths, dim=1) for x in (q, k, v)), pieces.masks, strict=True)
    for one, keys, values, mask in parts:
        stacked = one.reshape(groups, -1, width)  # the heads of a group share keys: [G, H / G * t, D]
        added = mask.repeat(heads // groups, 1)[None]
        scores = torch.baddbmm(added, stacked, keys.transpose(1, 2), alpha=scaling)
        found.append((scores.softmax(dim=-1) @ values).view(heads, -1, width))
    out = torch.cat(found, dim=1).view(heads, rows, length, width)
    return out.permute(1, 2, 0, 3).contiguous(), None


# Attention of a session ------------------------------------------------------------------------------------

FEW = 32  # queries from which plain bfloat16 products are faster on a processor than SDPA


def attend_all(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Without gradients: query [B, H, n, D], key and value [B, H, m, D], mask [B or 1, 1, n, m] bool (None:
    everything is seen) -> [B, H, n, D]."""
    plain = query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.shape[2] >= FEW
    if not plain or torch.is_grad_enabled():
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scale
        )
    out = torch.empty_like(query)
    for row in range(len(query)):  # its scores stay in the cache
        scores = (query[row] * scale) @ key[row].transpose(1, 2)
        if mask is not None:
            scores.masked_fill_(~mask[min(row, len(mask) - 1)], -torch.inf)
        out[row] = scores.softmax(dim=-1) @ value[row]
    return out


def attend_grouped(
    module: object,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: object,
    scaling: float,
    seen: Tensor | None,
    **_: object,
) -> tuple[Tensor, None]:
    """An attention function of transformers: query [B, H, n, D], key and value [B, G, m, D] -> [B, n, H, D].
    `seen` [B or 1, 1, n, m] bool, None: everything. Heads that share keys are rows of one product, so no key
    is repeated."""
    (rows, heads, count, width), groups = query.shape, key.shape[1]
    stacked = query.to(value.dtype).reshape(rows, groups, -1, width)  # [B, G, H / G * n, D]
    mask = None if seen is None else seen.repeat(1, 1, heads // groups, 1)
    out = attend_all(stacked, key.to(value.dtype), value, mask, scaling)
    return out.view(rows, heads, count, width).transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register("grouped", attend_grouped)
ALL_ATTENTION_FUNCTIONS.register("by_sample", attend_by_sample)
ALL_ATTENTION_FUNCTIONS.register("by_block", attend_by_block)
