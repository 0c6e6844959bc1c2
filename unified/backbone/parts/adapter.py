"""Bottleneck adapters: after some layers a small network of its own adds to the hidden states.

N. Houlsby et al., Parameter-Efficient Transfer Learning for NLP (arXiv 1902.00751). Simplified: one adapter
after a layer in place of two within it. Test: tests/unified/backbone/test_parts.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from unified.backbone.layer_pass import LayerPart, Pass


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """`width` of the hidden states, `inner` width of the bottleneck, `layers` that have an adapter."""

    width: int = 64
    inner: int = 16
    layers: tuple[int, ...] = (0, 1)

    def __post_init__(self) -> None:
        if min(self.width, self.inner) < 1:
            raise ValueError(f"width and inner must be at least 1, got {self.width} and {self.inner}")


class Adapter(nn.Module, LayerPart):
    """hidden + up(silu(down(rms_norm(hidden)))) after each of some layers; `up` is zero at the start."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        width, inner = config.width, config.inner
        self.down = nn.ModuleDict({str(n): nn.Linear(width, inner) for n in config.layers})
        self.up = nn.ModuleDict({str(n): nn.Linear(inner, width) for n in config.layers})
        for linear in self.up.values():
            nn.init.zeros_(linear.weight)  # type: ignore[arg-type]
            nn.init.zeros_(linear.bias)  # type: ignore[arg-type]

    def leave(self, layer: int, hidden: Tensor, run: Pass) -> Tensor:
        name = str(layer)
        if name not in self.down:
            return hidden
        normed = nn.functional.rms_norm(hidden, hidden.shape[-1:])
        added: Tensor = self.up[name](nn.functional.silu(self.down[name](normed)))
        return hidden + added.to(hidden.dtype)
