"""Features of a vision tower for single layers, beside those among the input embeddings.

Source: Meng et al., DeepStack, arXiv 2406.04334, as in Qwen3-VL. Test: logits of Qwen3-VL are those of
`transformers` (tests/unified/vision_language/test_model.py).
"""

from __future__ import annotations

from torch import Tensor

from unified.backbone.layer_pass import LayerPart


class DeepStack(LayerPart):
    """Features of an image [B, T, L, D] added to the hidden states after each of the first L layers (zero at
    ids of text)."""

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def leave(self, layer: int, hidden: Tensor, run: object) -> Tensor:
        if layer >= self.features.shape[2]:
            return hidden
        return hidden + self.features[:, :, layer].to(hidden.dtype)
