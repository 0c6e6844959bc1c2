"""Attention back-ends: what a layer does with queries, keys, values and a mask.

A back-end is called with query [R, H, n, D], key and value [R, G, m, D] (G divides H), what is `Seen`, and
the scale of the scores, and returns [R, n, H, D]. `BACKENDS` names them for a configuration: "sdpa" serves
sessions and batches; "by_sample" (processors) and "by_block" (FlexAttention, GPUs) serve whole packed
batches, and fall back to SDPA in sessions; "by_length" is flash-attention in sessions (extra `gpu`), where
each row sees its first keys. `LIBRARY_NAMES` are those of `transformers` for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from unified.layout.attention import EVERYTHING, Index, Seen, attends, block_mask

HALF = (torch.bfloat16, torch.float16)  # what flash-attention computes in
SCORES = 2**24  # numbers that plain products may hold at a time
LONG = 256  # positions of a sample from which SDPA, which keeps no scores for the backward pass, is as fast
FEW = 32  # queries from which plain bfloat16 products are faster on a processor than SDPA


Attend = Callable[[Tensor, Tensor, Tensor, Seen, float], Tensor]


def attend_all(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """query [R, H, n, D], key and value [R, H, m, D], mask [R or 1, 1, n or 1, m] bool (None: everything is
    seen) -> [R, H, n, D]. On processors many bfloat16 queries are two plain products, without gradients."""
    plain = query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.shape[2] >= FEW
    if not plain or torch.is_grad_enabled():
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    out = torch.empty_like(query)
    for row in range(len(query)):  # its scores stay in the processor's cache
        for part in _parts(query.shape[1], query.shape[2], key.shape[2]):
            scores = (query[row, :, part] * scale) @ key[row].transpose(1, 2)
            if mask is not None:
                own = mask[min(row, len(mask) - 1)]
                scores.masked_fill_(~(own[:, part] if own.shape[1] > 1 else own), -torch.inf)
            out[row, :, part] = scores.softmax(dim=-1) @ value[row]
    return out


def _parts(heads: int, queries: int, keys: int) -> list[slice]:
    """Queries in pieces whose scores are at most `SCORES` numbers: memory grows with the keys alone."""
    count = max(FEW, SCORES // (heads * keys))
    return [slice(start, start + count) for start in range(0, queries, count)]


def sdpa(query: Tensor, key: Tensor, value: Tensor, seen: Seen, scale: float) -> Tensor:
    """Scaled dot-product attention. Heads that share keys are rows of one product, so no key is repeated."""
    (rows, heads, count, width), groups, mask = query.shape, key.shape[1], seen.mask
    query, key = query.to(value.dtype), key.to(value.dtype)  # normalisation may leave them in float32
    if groups == heads or torch.is_grad_enabled():
        shared = groups != heads
        if shared:
            out = scaled_dot_product_attention(
                query, key, value, attn_mask=mask, scale=scale, enable_gqa=True
            )
        else:
            out = attend_all(query, key, value, mask, scale)
        return out.transpose(1, 2)
    stacked = query.reshape(rows, groups, -1, width)  # [R, G, H / G * n, D]
    if mask is not None and mask.shape[2] > 1:
        mask = mask.repeat(1, 1, heads // groups, 1)
    out = attend_all(stacked, key, value, mask, scale)
    return out.view(rows, heads, count, width).transpose(1, 2)


# Whole packed batches ---------------------------------------------------------------------------------------


def by_block(index: Index) -> Attend:
    """FlexAttention: blocks of pairs of positions that no sample holds are skipped."""
    blocks = block_mask(index)

    def attend(query: Tensor, key: Tensor, value: Tensor, seen: Seen, scale: float) -> Tensor:
        from torch.nn.attention.flex_attention import flex_attention

        run: Any = flex_attention if torch.compiler.is_compiling() else compiled(flex_attention)
        q, k = query.to(value.dtype), key.to(value.dtype)
        out = run(q, k, value, block_mask=blocks, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
        return out.transpose(1, 2)

    return attend


@cache
def compiled(function: Any) -> Any:
    return torch.compile(function, dynamic=False)


def by_sample(index: Index, dtype: torch.dtype) -> Attend:
    """Sample by sample: packed rows are mostly pairs of positions of different samples, which a dense mask
    computes and throws away; here each sample is one small product, a long one SDPA."""
    lengths, masks = pieces(index, dtype)

    @torch.compiler.disable
    def attend(query: Tensor, key: Tensor, value: Tensor, seen: Seen, scale: float) -> Tensor:
        (rows, heads, length, width), groups = query.shape, key.shape[1]
        q, k, v = (x.to(dtype).transpose(0, 1).reshape(x.shape[1], -1, width) for x in (query, key, value))
        parts = zip(q.split(lengths, 1), k.split(lengths, 1), v.split(lengths, 1), masks, strict=True)
        found = []
        for one, keys, values, mask in parts:
            stacked = one.reshape(groups, -1, width)  # the heads of a group share keys: [G, H / G * t, D]
            added = mask.repeat(heads // groups, 1)[None]
            if len(mask) >= LONG:
                q4, k4, v4 = stacked[None], keys[None], values[None]  # of three axes it keeps the scores
                out = scaled_dot_product_attention(q4, k4, v4, attn_mask=added[None], scale=scale)
            else:
                scores = torch.baddbmm(added, stacked, keys.transpose(1, 2), alpha=scale)
                out = scores.softmax(dim=-1) @ values
            found.append(out.view(heads, -1, width))
        out = torch.cat(found, dim=1).view(heads, rows, length, width)
        return out.permute(1, 2, 0, 3)

    return attend


def pieces(index: Index, dtype: torch.dtype) -> tuple[list[int], list[Tensor]]:
    """The samples of a batch [B, T] as runs of its B * T positions laid end to end (runs of padding too):
    their lengths, and for each what is added to its scores, [t, t] (0 where seen, -inf where not)."""
    rows, length = index.sample.shape
    flat = index.map(lambda field: field.reshape(1, -1))
    place = torch.arange(rows, device=flat.sample.device).repeat_interleave(length)
    pairs = torch.stack([place, flat.sample[0]])
    borders = (pairs[:, 1:] != pairs[:, :-1]).any(dim=0).nonzero()[:, 0] + 1
    ends = [*borders.tolist(), rows * length]
    spans = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    masks = []
    for span in spans:
        part = flat.map(lambda field, span=span: field[:, span])  # type: ignore[misc]
        seen = attends(part, part)[0]
        masks.append(torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf))
    return [span.stop - span.start for span in spans], masks


# flash-attention --------------------------------------------------------------------------------------------


def flash() -> Attend:
    """flash-attention with a KV cache, where each row sees its first keys: text token by token, and the
    steps of an image. Half precision, on a GPU; what needs another mask goes through SDPA. ValueError if
    the package is not installed, and, when first used, for keys of another type."""
    try:
        from flash_attn import flash_attn_with_kvcache
    except ImportError:
        raise ValueError(
            'attention "by_length" needs the package flash-attn: pip install "unified-multimodal[gpu]" '
            'or use "sdpa"'
        ) from None

    def attend(query: Tensor, key: Tensor, value: Tensor, seen: Seen, scale: float) -> Tensor:
        if value.dtype not in HALF:
            raise ValueError(
                f'attention "by_length" takes bfloat16 or float16, got {value.dtype}: cast the model or use '
                '"sdpa"'
            )
        if seen.mask is not None and seen.lengths is None:
            return sdpa(query, key, value, seen, scale)
        q, k, v = (x.transpose(1, 2) for x in (query.to(value.dtype), key, value))  # [R, n, heads, D]
        lengths = seen.lengths
        if lengths is None:
            lengths = torch.full((len(q),), k.shape[1], dtype=torch.int32, device=q.device)
        out: Tensor = flash_attn_with_kvcache(
            q, k, v, cache_seqlens=lengths, softmax_scale=scale, causal=False
        )
        return out

    return attend


BACKENDS = ("sdpa", "by_sample", "by_block", "by_length")
LIBRARY_NAMES = {
    "eager": "sdpa",  # the same values
    "flex_attention": "by_block",
    "flash_attention_2": "by_length",
}


def backend_of(name: str | None) -> str:
    """The back-end of one of our names, or of an `attn_implementation` of `transformers` (None: sdpa).
    ValueError for another."""
    found = LIBRARY_NAMES.get(name or "sdpa", name or "sdpa")
    if found not in BACKENDS:
        known = ", ".join(["sdpa", *LIBRARY_NAMES, *BACKENDS[1:]])
        raise ValueError(f"attn_implementation {name!r} is not for this model: use one of {known}")
    return found


def of_session(name: str) -> Attend:
    """The back-end of cached passes for a name in `BACKENDS`."""
    return flash() if name == "by_length" else sdpa


def session_attention(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """Which attention sessions run with a back-end on a device, and why: one line."""
    if name == "by_length":
        return "flash-attention, as asked, where each row sees its first keys; SDPA for prompts"
    if device.type != "cuda":
        why = f"the model is on {device.type}, flash-attention needs a GPU"
    elif find_spec("flash_attn") is None:
        why = 'flash-attn is not installed: pip install "unified-multimodal[gpu]"'
    elif dtype not in HALF:
        why = f"flash-attention takes bfloat16 or float16, the model is {str(dtype).removeprefix('torch.')}"
    else:
        why = 'flash-attn is installed: attn_implementation="flash_attention_2" asks for it'
    return f"SDPA of PyTorch ({why})"


def of_batch(name: str, index: Index, dtype: torch.dtype) -> tuple[Attend, Seen]:
    """The back-end of one whole batch without a cache, and what is seen."""
    if name == "by_block":
        return by_block(index), EVERYTHING
    if name == "by_sample":
        return by_sample(index, dtype), EVERYTHING
    return sdpa, Seen(attends(index, index)[:, None])
