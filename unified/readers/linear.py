"""Continuous vectors as READ embeddings: RMSNorm and one linear map, the same at every position.

Latents of a visual tokenizer without quantisation, or features of a frozen encoder (compare the projector of
LLaVA, arXiv 2304.08485). The norm makes the map independent of the scale of the values; where a vector
stands is told by the backbone's positions, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from unified.finite import check_tree


@dataclass(frozen=True, kw_only=True)
class LinearReaderConfig:
    """`width`: channels C of the vectors."""

    width: int = 16
    eps: float = 1e-6

    def __post_init__(self) -> None:
        check_tree(self)
        if not isinstance(self.width, int) or self.width < 1:
            raise ValueError(f"width must be a number of channels of at least 1, got {self.width!r}")
        if self.eps <= 0:
            raise ValueError(f"eps must be above 0, got {self.eps}")


class LinearReader(nn.Module):
    """Vectors of C channels -> D."""

    def __init__(
        self, config: LinearReaderConfig, width: int, embed: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.RMSNorm(config.width, eps=config.eps)
        self.projection = nn.Linear(config.width, width)

    def forward(self, values: Tensor) -> Tensor:
        """[..., C] -> [..., D]. Another number of channels: ValueError."""
        if values.shape[-1] != self.config.width:
            raise ValueError(f"vectors of {values.shape[-1]} channels, the reader takes {self.config.width}")
        return self.projection(self.norm(values.to(self.projection.weight.dtype)))
