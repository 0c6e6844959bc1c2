"""Attention of pretrained decoders, sliding windows included.

Layers with a sliding window (Gemma 3, Mistral) see, of what the attention rule lets them, entries that are
less than `window` back. Entries of WRITE segments are not counted: they are gone when their image is done, so
a window would otherwise depend on whether a stream is read at once or written step by step; those of the
segment itself are always near. Called without a pass, as by `generate` of `transformers`, the function is the
library's SDPA.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from unified.backbone.attention import Attend
from unified.backbone.layer_pass import Pass
from unified.layout.attention import PADDING, Index, Seen
from unified.stream.segments import Kind

NAME = "unified_pretrained"


def attend_pretrained(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    scaling: float,
    run: Pass | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """query [R, H, n, D], key and value [R, G, n, D] -> [R, n, H, D]."""
    if run is None:
        given = {"scaling": scaling, "sliding_window": sliding_window, **options}
        out, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **given)
        return out, None
    if options.get("softcap") is not None:
        raise ValueError(f"{type(module).__name__} caps its scores, which a session does not")
    if sliding_window is not None:
        run = replace(run, attend=within_window(run, module.layer_idx, sliding_window))
    return run.attention(module.layer_idx, query, key, value, scaling).contiguous(), None


def within_window(run: Pass, layer: int, window: int) -> Attend:
    """The back-end of a pass for a layer in which entry i sees entries j with i - j < window."""

    def attend(query: Tensor, key: Tensor, value: Tensor, seen: Seen, scale: float) -> Tensor:
        near = near_entries(run, layer, window, key.shape[2])
        if near is not None:
            near = near.to(query.device)
            seen = Seen(near if seen.mask is None else seen.mask & near)
        return run.attend(query, key, value, seen, scale)

    return attend


def near_entries(run: Pass, layer: int, window: int, keys: int) -> Tensor | None:
    """[R, 1, n, keys] bool: which entries are within the window of each position; None if all are."""
    rows, count = run.index.sample.shape
    before, held = torch.zeros(rows, dtype=torch.long), run.index
    if run.append is not None:
        entries = run.append.cache.entries[layer]
        before = torch.from_numpy(entries.lengths[run.rows]).long()
        held = entries.index(run.rows, entries.lengths[run.rows] + run.append.counts)
    if int(before.max()) + count <= window:
        return None
    read = _read(held)  # [R, K]
    place = (before.to(read.device)[:, None] + torch.arange(count, device=read.device)).clamp(
        max=read.shape[1] - 1  # padding, too, must see something
    )
    if run.append is not None and run.append.tree is not None:
        counted = read[:, None] & torch.from_numpy(run.append.tree.over(before.numpy(), read.shape[1]))
        passed = counted.cumsum(dim=2)  # of the nodes of a tree, a position's own ancestors
        near = (passed.gather(2, place[:, :, None]) - passed) < window
    else:
        passed = read.cumsum(dim=1)  # entries that are read, up to each one and with it
        near = (passed.gather(1, place)[:, :, None] - passed[:, None]) < window
    near |= ~read[:, None]  # slots of its own segment; others are hidden by the attention rule
    missing = keys - near.shape[2]  # of a static cache, which hides the rest of its buffers
    return torch.nn.functional.pad(near, (0, missing))[:, None]


def _read(index: Index) -> Tensor:
    """[R, K] bool: entries that later ones may see."""
    return (index.kind != Kind.WRITE) & (index.sample != PADDING)


AttentionInterface.register(NAME, attend_pretrained)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
