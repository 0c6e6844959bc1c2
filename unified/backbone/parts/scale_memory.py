"""Learned keys and values that some steps of an image see: coarse maps one memory, finer maps another.

CSD-VAR (arXiv 2507.13984) keeps a style in a memory of the first maps and a content in one of the later ones;
either may be left out when an image is drawn. They have no positions and are seen in both branches of
guidance. Different from the paper, where a memory stands in the softmax of the stream from the start: it has
a softmax of its own behind a gate that is zero at the start (`Prefix`), so that training begins from the
model as it is. Tests: tests/unified/backbone/test_parts.py and test_scale_memory.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from unified.backbone.layer_pass import LayerPart, Pass
from unified.backbone.parts.prefix import Prefix, PrefixConfig
from unified.backbone.parts.steps import steps_of


@dataclass(frozen=True, kw_only=True)
class ScaleMemoryConfig:
    """Steps from `first` to before `last` (None: to the end) see `memory`."""

    first: int = 0
    last: int | None = None
    memory: PrefixConfig = field(default_factory=lambda: PrefixConfig(layers=(0,)))

    def __post_init__(self) -> None:
        if self.first < 0 or (self.last is not None and self.last <= self.first):
            raise ValueError(f"a memory needs steps from 0 on, got {self.first} to before {self.last}")

    @staticmethod
    def of(first: int = 0, last: int | None = None, **memory: int | tuple[int, ...]) -> ScaleMemoryConfig:
        """With the fields of `PrefixConfig`."""
        options = {"layers": (0,), **memory}
        return ScaleMemoryConfig(first=first, last=last, memory=PrefixConfig(**options))  # type: ignore[arg-type]


class ScaleMemory(nn.Module, LayerPart):
    """A `Prefix` for the slots of some steps."""

    by_step = True

    def __init__(self, config: ScaleMemoryConfig) -> None:
        super().__init__()
        self.config, self.memories = config, Prefix(config.memory)

    def attended(self, layer: int, query: Tensor, found: Tensor, run: Pass) -> Tensor:
        if layer not in self.config.memory.layers:
            return found
        steps, last = steps_of(run).to(found.device), self.config.last
        sees = steps >= self.config.first
        if last is not None:
            sees &= steps < last
        if not bool(sees.any()):
            return found
        return torch.where(sees[..., None, None], self.memories.attended(layer, query, found, run), found)
