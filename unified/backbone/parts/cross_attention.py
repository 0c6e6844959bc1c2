"""Gated cross-attention: before some layers the stream attends to features of an encoder (of a text, of a
control map), of which every row has its own number.

J.-B. Alayrac et al., Flamingo (arXiv 2204.14198), section 2.2. Simplified: no feed-forward block of its own;
keys have no positions. Every query may also attend to nothing (a key and a value of zeros), so that a row
without features, such as a null row of guidance, is left as it is. Test:
tests/unified/backbone/test_parts.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, rms_norm, scaled_dot_product_attention

from unified.backbone.layer_pass import LayerPart, Pass
from unified.backbone.parts.rows import of_pass


@dataclass(frozen=True, kw_only=True)
class CrossAttentionConfig:
    """`width` of the hidden states and of the `features`; `heads`; the `layers` before which it stands."""

    width: int = 64
    features: int = 32
    heads: int = 4
    layers: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")


class CrossAttention(nn.Module):
    """hidden + tanh(gate) * attention(rms_norm(hidden), features); the gate is zero at the start."""

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleDict({str(n): _Block(config) for n in config.layers})

    def reading(self, features: Tensor, mask: Tensor | None = None) -> Reading:
        """The part with its features [B, k, C] for the B rows of a batch or session, and `mask` [B, k] bool:
        which of them are a row's own (None: all). Their keys and values are computed here, once."""
        if features.ndim != 3 or features.shape[2] != self.config.features:
            raise ValueError(
                f"features must have shape [rows, k, {self.config.features}], got {tuple(features.shape)}"
            )
        if mask is None:
            mask = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        pairs = {int(name): block.keys_of(features) for name, block in self.blocks.items()}  # type: ignore[operator]
        return Reading(self.blocks, pairs, pad(mask, (1, 0), value=True))


class Reading(LayerPart):
    """A cross-attention with keys and values [B, H, 1 + k, D] of each layer, and what is seen of them [B, 1 +
    k]."""

    def __init__(self, blocks: nn.ModuleDict, pairs: dict[int, tuple[Tensor, Tensor]], mask: Tensor) -> None:
        self.blocks, self.pairs, self.mask = blocks, pairs, mask

    def enter(self, layer: int, hidden: Tensor, run: Pass) -> Tensor:
        if layer not in self.pairs:
            return hidden
        count = len(hidden)
        key, value = (of_pass(x, count, run) for x in self.pairs[layer])
        mask = of_pass(self.mask, count, run)
        mask = torch.cat([mask.new_ones(count, 1), mask[:, 1:]], dim=1)  # null rows see nothing, but see it
        added: Tensor = self.blocks[str(layer)](hidden, key, value, mask[:, None, None])
        return hidden + added.to(hidden.dtype)


class _Block(nn.Module):
    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.key_value = nn.Linear(config.features, 2 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.gate = nn.Parameter(torch.zeros(()))

    def keys_of(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features [B, k, C] -> keys and values [B, H, 1 + k, D], the first of each zero."""
        both = self.key_value(features).unflatten(2, (2, self.heads, -1))  # [B, k, 2, H, D]
        key, value = pad(both.permute(2, 0, 3, 1, 4), (0, 0, 1, 0))
        return key, value

    def forward(self, hidden: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """hidden [R, n, W], key and value [R, H, 1 + k, D], mask [R, 1, 1, 1 + k] -> [R, n, W]."""
        asked = self.query(rms_norm(hidden, hidden.shape[-1:]))
        query = asked.unflatten(2, (self.heads, -1)).transpose(1, 2)
        found = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        given: Tensor = self.gate.tanh() * self.out(found.transpose(1, 2).flatten(2))
        return given
