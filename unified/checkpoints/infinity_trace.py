"""One teacher-forced pass of Infinity with the values inside that the golden folders hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as sdpa_of

from unified.backbone.attention import sdpa
from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_published import training_loss
from unified.layout.attention import Seen
from unified.orders.shapes import Shapes


@torch.no_grad()
def traced(
    model: Infinity, texts: Sequence[Tensor], latent: Tensor, shapes: Shapes, save: int
) -> dict[str, Tensor]:
    """By their names in a golden folder: inputs and labels of a latent [B, d, H, W], what becomes of the
    texts, hidden states of the first `save` tokens, logits and losses."""
    labels = model.grid.labels(latent, shapes)
    vectors = model.grid.transformer_inputs(labels, shapes)
    hidden: dict[str, Tensor] = {}
    handles = _watch(model, hidden)
    logits = model(texts, vectors, shapes)
    for handle in handles:
        handle.remove()
    found = {
        "x_BLC_wo_prefix": vectors,
        "labels": labels.to(torch.uint8),
        **_of_texts(model, texts),
        **{name: value[:, :save] for name, value in hidden.items()},
        "logits": logits.flatten(-2),
        "loss_mean": training_loss(logits, labels, shapes, by_scale=False),
        "loss_reweighted": training_loss(logits, labels, shapes),
        "logits_bf16_cross_attention": _rounded(model, texts, vectors, shapes).flatten(-2)[:, :save],
    }
    return {f"tf.{name}": value for name, value in found.items()}


def _of_texts(model: Infinity, texts: Sequence[Tensor]) -> dict[str, Tensor]:
    """Of all texts, row after row without padding."""
    pooled, memory, _ = model.text(texts)
    own = [part[: len(text)] for part, text in zip(memory, texts, strict=True)]
    return {
        "text_norm": model.text.text_norm(torch.cat(list(texts))),
        "cond_BD": pooled,
        "ca_kv": torch.cat(own),
        "gss": model.shared_ada_lin(pooled).view(len(pooled), 1, 6, -1),
    }


def _watch(model: Infinity, hidden: dict[str, Tensor]) -> list[Any]:
    """Record the first block's input, branches and output, and the last block's output."""

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            hidden[name] = output

        return hook

    def keep_input(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        hidden["block0_in"] = given[0]

    first, last = model.layers()[0], model.layers()[-1]
    return [
        first.register_forward_pre_hook(keep_input),
        first.sa.register_forward_hook(keep("block0_self_attn")),
        first.ca.register_forward_hook(keep("block0_cross_attn")),
        first.register_forward_hook(keep("block0_out")),
        last.register_forward_hook(keep("last_block_out")),
    ]


def _rounded(model: Infinity, texts: Sequence[Tensor], vectors: Tensor, shapes: Shapes) -> Tensor:
    """Logits of a pass whose attention to the text takes and gives bfloat16, row by row, as the published
    kernel's does: in the blocks and where the text is pooled."""
    layers: list[Any] = [model.text.text_proj_for_sos["ca"], *(block.ca for block in model.layers())]
    for layer in layers:
        layer.attend = _in_bfloat16
    try:
        logits: Tensor = model(texts, vectors, shapes)
    finally:
        for layer in layers:
            layer.attend = sdpa
    return logits


def _in_bfloat16(query: Tensor, key: Tensor, value: Tensor, seen: Seen, scale: float) -> Tensor:
    q, k, v = (x.bfloat16() for x in (query, key, value))
    found = []
    for row in range(len(q)):
        own = k.shape[2] if seen.mask is None else int(seen.mask[row].sum())
        found.append(sdpa_of(q[row, None], k[row, None, :, :own], v[row, None, :, :own], scale=scale))
    return torch.cat(found).transpose(1, 2)
