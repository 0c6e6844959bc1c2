"""Visual codes as READ embeddings: those of the head, which are also what written slots are fed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class CodeReaderConfig:
    """Nothing to choose: the codes and their embedding are the head's."""


class CodeReader(nn.Module):
    """Without parameters of its own: `embed` is that of the head."""

    def __init__(self, config: CodeReaderConfig, width: int, embed: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.config, self.embed = config, embed

    def forward(self, values: Tensor) -> Tensor:
        """Codes counted from 0 [...] -> [..., D]."""
        return self.embed(values)
