"""The default decoder's layers in fewer operations, for sessions.

Where a few positions are run at once, a pass mostly waits for the next small operation to begin. Here
products of the same input are one, and so are the norms of queries and keys. Weights are copied: what becomes
of them later is not seen.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from unified.cache.kv_cache import KVCache
from unified.layout.attention import attend_grouped

KIND = "qwen3_vl_text"


class FusedDecoder:
    """What a `qwen3_vl_text` decoder of transformers computes, up to rounding. ValueError for another one."""

    def __init__(self, decoder: Any) -> None:
        config = decoder.config
        if not fusible(decoder):
            raise ValueError(
                f"only a plain {KIND} decoder without biases can be fused, got {config.model_type}"
            )
        self.rotary, self.norm, self.epsilon = decoder.rotary_emb, decoder.norm.weight, config.rms_norm_eps
        self.layers = [_Layer(layer, config) for layer in decoder.layers]

    @torch.no_grad()
    def __call__(self, x: Tensor, positions: Tensor, seen: Tensor | None, cache: KVCache) -> Tensor:
        """x [R, n, D], positions [3, R, n], seen [R or 1, 1, n, m] bool (None: everything) -> [R, n, D].
        Keys and values are added to the cache."""
        cos, sin = (wave[:, :, None] for wave in self.rotary(x, positions))  # [R, n, 1, head]
        turned = torch.cat([-sin[..., : sin.shape[-1] // 2], sin[..., sin.shape[-1] // 2 :]], dim=-1)
        for number, layer in enumerate(self.layers):
            x = layer(x, cos, turned, seen, cache, number)
        return nn.functional.rms_norm(x, x.shape[-1:], self.norm, self.epsilon)


def fusible(decoder: Any) -> bool:
    """Whether these are the layers that are computed here: without biases, and without adapters in them."""
    config = decoder.config
    if config.model_type != KIND or config.attention_bias or config.hidden_act != "silu":
        return False
    parts = (part for name, part in decoder.named_modules() if name.endswith("_proj"))
    return all(type(part) is nn.Linear for part in parts)


class _Layer:
    def __init__(self, layer: Any, config: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.scale, self.epsilon = attention.scaling, config.rms_norm_eps
        with torch.no_grad():
            self.ask = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
            norms = [attention.q_norm.weight] * self.heads + [attention.k_norm.weight] * self.groups
            self.qk_norm = torch.stack(norms)  # [H + G, head]
            self.rise = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
        self.out, self.fall = attention.o_proj.weight, mlp.down_proj.weight
        self.norms = layer.input_layernorm.weight, layer.post_attention_layernorm.weight

    def __call__(
        self, x: Tensor, cos: Tensor, turned: Tensor, seen: Tensor | None, cache: KVCache, number: int
    ) -> Tensor:
        linear, norm = nn.functional.linear, nn.functional.rms_norm
        rows, count, width = x.shape
        said = linear(norm(x, (width,), self.norms[0], self.epsilon), self.ask)
        said = said.view(rows, count, -1, self.qk_norm.shape[-1])
        both, value = said.split([self.heads + self.groups, self.groups], dim=2)
        both = norm(both, both.shape[-1:], None, self.epsilon) * self.qk_norm
        both = torch.addcmul(both * cos, both.roll(both.shape[-1] // 2, dims=-1), turned)
        query, key = both.transpose(1, 2).split([self.heads, self.groups], dim=1)
        keys, values = cache.update(key, value.transpose(1, 2), number)
        found, _ = attend_grouped(None, query, keys, values, None, self.scale, seen)  # [R, n, H, head]
        x = x + linear(found.flatten(2), self.out)
        gate, up = linear(norm(x, (width,), self.norms[1], self.epsilon), self.rise).chunk(2, dim=-1)
        return x + linear(nn.functional.silu(gate) * up, self.fall)
