"""The default decoder's layers in fewer operations, for sessions.

Where a few positions are run at once, a pass mostly waits for the next small operation to begin. Here
products of the same input are one, and so are the norms of queries and keys. Weights are copied: what becomes
of them later is not seen.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from unified.backbone.layer_pass import Pass
from unified.backbone.qwen3_config import KIND

ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")


class FusedLayers:
    """What the layers of a `qwen3_vl_text` decoder of transformers compute, up to rounding, without
    gradients. ValueError for another decoder."""

    after = 0

    def __init__(self, decoder: Any) -> None:
        config = decoder.config
        if not fusible(decoder):
            raise ValueError(
                f"only a plain {KIND} decoder without biases can be fused, got {config.model_type}"
            )
        self.rotary, self.norm, self.epsilon = decoder.rotary_emb, decoder.norm.weight, config.rms_norm_eps
        self.layers = [_Layer(layer, config) for layer in decoder.layers]

    def __len__(self) -> int:
        return len(self.layers)

    def begin(self, hidden: Tensor, run: Pass) -> tuple[Tensor, Tensor]:
        cos, sin = (wave[:, :, None] for wave in self.rotary(hidden, run.positions))  # [R, n, 1, head]
        half = sin.shape[-1] // 2
        return cos, torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)

    def layer(self, number: int, hidden: Tensor, shared: tuple[Tensor, Tensor], run: Pass) -> Tensor:
        return self.layers[number](hidden, *shared, run, number)

    def end(self, hidden: Tensor, run: Pass) -> Tensor:
        return nn.functional.rms_norm(hidden, hidden.shape[-1:], self.norm, self.epsilon)


def by_input(weight: Tensor) -> Tensor:
    """The same weight [out, in], laid out in memory input by input where that is faster: in float32 on a
    processor, for products that widen (for one position 1.3 to 1.5 times with AVX2, for many the same)."""
    wide = weight.shape[0] > weight.shape[1]
    if wide and weight.dtype == torch.float32 and weight.device.type == "cpu":
        return weight.t().contiguous().t()
    return weight


def fusible(decoder: Any) -> bool:
    """Whether these are the layers that are computed here: without biases, without adapters in them or an
    expert beside them, and not split over processes."""
    config = decoder.config
    if config.model_type != KIND or config.attention_bias or config.hidden_act != "silu":
        return False
    if getattr(decoder, "expert", None) is not None:
        return False
    return all(
        type(getattr(part, name)) is nn.Linear and not hasattr(getattr(part, name).weight, "device_mesh")
        for layer in decoder.layers
        for part, names in ((layer.self_attn, ATTENTION), (layer.mlp, MLP))
        for name in names
    )


class _Layer:
    def __init__(self, layer: Any, config: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.scale, self.epsilon = attention.scaling, config.rms_norm_eps
        with torch.no_grad():
            qkv = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
            self.qkv = by_input(torch.cat(qkv))
            norms = [attention.q_norm.weight] * self.heads + [attention.k_norm.weight] * self.groups
            self.qk_norm = torch.stack(norms)  # [H + G, head]
            self.gate_up = by_input(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]))
        self.out, self.down = attention.o_proj.weight, mlp.down_proj.weight
        self.norms = layer.input_layernorm.weight, layer.post_attention_layernorm.weight

    def __call__(self, x: Tensor, cos: Tensor, turned: Tensor, run: Pass, number: int) -> Tensor:
        linear, norm = nn.functional.linear, nn.functional.rms_norm
        rows, count, width = x.shape
        qkv = linear(norm(x, (width,), self.norms[0], self.epsilon), self.qkv)
        qkv = qkv.view(rows, count, -1, self.qk_norm.shape[-1])
        both, value = qkv.split([self.heads + self.groups, self.groups], dim=2)
        both = norm(both, both.shape[-1:], None, self.epsilon) * self.qk_norm
        both = torch.addcmul(both * cos, both.roll(both.shape[-1] // 2, dims=-1), turned)
        query, key = both.transpose(1, 2).split([self.heads, self.groups], dim=1)
        found = run.attention(number, query, key, value.transpose(1, 2), self.scale)  # [R, n, H, head]
        x = x + linear(found.flatten(2), self.out)
        gate, up = linear(norm(x, (width,), self.norms[1], self.epsilon), self.gate_up).chunk(2, dim=-1)
        return x + linear(nn.functional.silu(gate) * up, self.down)
