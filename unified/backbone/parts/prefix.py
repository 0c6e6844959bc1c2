"""Prefix tuning: learned keys and values in some layers, which every query attends to.

X. L. Li and P. Liang, Prefix-Tuning (arXiv 2101.00190), in the form of R. Zhang et al., LLaMA-Adapter (arXiv
2303.16199): a softmax of their own, times a gate for each head that is zero at the start, so that training
begins from the model as it is. Test: tests/unified/backbone/test_parts.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from unified.backbone.layer_pass import LayerPart, Pass


@dataclass(frozen=True, kw_only=True)
class PrefixConfig:
    """`length` keys of `head_width` for each of `kv_heads`, seen by `heads`, in each of some `layers`."""

    length: int = 8
    heads: int = 4
    kv_heads: int = 2
    head_width: int = 16
    layers: tuple[int, ...] = (0, 1)

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"a prefix needs a length of at least 1, got {self.length}")
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads are not a multiple of {self.kv_heads} kv_heads")


class Prefix(nn.Module, LayerPart):
    """attention + tanh(gate) * attention to `length` learned keys and values."""

    def __init__(self, config: PrefixConfig) -> None:
        super().__init__()
        self.config = config
        shape = (2, config.kv_heads, config.length, config.head_width)
        names = [str(n) for n in config.layers]
        self.pairs = nn.ParameterDict({n: nn.Parameter(torch.empty(shape)) for n in names})
        self.gates = nn.ParameterDict({n: nn.Parameter(torch.zeros(config.heads)) for n in names})
        for pair in self.pairs.values():
            nn.init.normal_(pair)

    def attended(self, layer: int, query: Tensor, found: Tensor, run: Pass) -> Tensor:
        name, repeats = str(layer), self.config.heads // self.config.kv_heads
        if name not in self.pairs:
            return found
        both = self.pairs[name].to(found.dtype).repeat_interleave(repeats, dim=1)  # [2, H, k, D]
        key, value = both[:, None].expand(-1, len(query), -1, -1, -1)
        more = scaled_dot_product_attention(query.to(found.dtype), key, value)  # [R, H, n, D]
        gate = self.gates[name].tanh()[:, None].to(found.dtype)
        return found + gate * more.transpose(1, 2)
