"""Features of a vision tower for single layers, beside those among the input embeddings.

Source: Meng et al., DeepStack, arXiv 2406.04334, as in Qwen3-VL. Test: logits of Qwen3-VL are those of
`transformers` (tests/unified/vision_language/test_model.py).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from unified.backbone.layer_pass import LayerPart, Pass


class DeepStack(LayerPart):
    """Features of an image [B, T, L, D] added to the hidden states after each of the first L layers (zero at
    ids of text)."""

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def leave(self, layer: int, hidden: Tensor, run: Pass) -> Tensor:
        if layer >= self.features.shape[2]:
            return hidden
        return hidden + self.features[:, :, layer].to(hidden.dtype)


def with_deeper(embeds: Tensor, image: Tensor, features: Tensor | None) -> Tensor:
    """Embeddings [B, T, D] -> [B, T, D (1 + L)]: at image placeholders (`image` [B, T] bool) what their
    features [N, D (1 + L)] hold for the first L layers, zeros elsewhere."""
    width = embeds.shape[-1]
    if features is None or features.shape[1] == width:
        return embeds
    deeper = embeds.new_zeros(*image.shape, features.shape[1] - width)
    deeper[image] = features[:, width:].to(embeds)
    return torch.cat([embeds, deeper], dim=-1)


def split_deeper(embeds: Tensor, width: int, run: Pass) -> tuple[Tensor, Pass]:
    """Embeddings [B, T, D (1 + L)], of width D -> [B, T, D], and a pass that adds the rest layer by layer."""
    if embeds.shape[-1] == width:
        return embeds, run
    deeper = embeds[..., width:].unflatten(-1, (-1, width))
    return embeds[..., :width], replace(run, parts=[*run.parts, DeepStack(deeper)])
