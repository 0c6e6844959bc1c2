"""Attention of pretrained decoders in a session, sliding windows included.

Layers with a sliding window (Gemma 3, Mistral) see, of what the attention rule lets them, entries that are
less than `window` back in the cache. Called without a pass, as by `generate` of `transformers`, the
function is the library's SDPA.
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
from unified.layout.attention import Seen

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
    count, before = run.index.sample.shape[1], torch.zeros(len(run.index.sample), dtype=torch.long)
    if run.append is not None:
        before = torch.from_numpy(run.append.cache.entries[layer].lengths[run.rows]).long()
    if int(before.max()) + count <= window:
        return None
    place = (before[:, None] + torch.arange(count)).clamp(max=keys - 1)  # padding, too, must see something
    return (place[:, :, None] - torch.arange(keys) < window)[:, None]


AttentionInterface.register(NAME, attend_pretrained)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
