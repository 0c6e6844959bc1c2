"""Row and column of a code in its image as a learned embedding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unified.extras.extra import Extra


@dataclass(frozen=True, kw_only=True)
class GridEmbeddingConfig:
    """`frequencies`: of the sines and cosines of each axis, half an octave apart."""

    frequencies: int = 16

    def __post_init__(self) -> None:
        if self.frequencies < 1:
            raise ValueError(f"frequencies must be at least 1, got {self.frequencies}")


class GridEmbedding(nn.Module, Extra):
    """Adds to the input of every code of an image its row and column, as sines and cosines, mapped linearly.
    Rotary embeddings tell how far apart positions are, and text stands at no fixed distance from an image:
    that something is "at the top left" is learned much faster from this (VAR, arXiv 2404.02905, has absolute
    places too)."""

    def __init__(self, config: GridEmbeddingConfig, width: int) -> None:
        super().__init__()
        self.frequencies = config.frequencies
        self.projection = nn.Linear(4 * config.frequencies, width, bias=False)

    def initialise(self, std: float) -> None:
        """First weights: as large as what it is added to."""
        nn.init.normal_(self.projection.weight, std=std / self.projection.in_features**0.5)

    def position_inputs(self, inputs: Tensor, positions: Tensor) -> Tensor:
        """Everything but images has a zero offset from the time axis, and gets nothing."""
        rates = 2.0 ** (-torch.arange(self.frequencies, device=positions.device) / 2)
        angles = (positions[1:] - positions[:1])[..., None] * rates  # [2, B, P, F]
        waves = torch.cat(
            [angles[0].sin(), angles[0].cos() - 1, angles[1].sin(), angles[1].cos() - 1], dim=-1
        )
        added: Tensor = self.projection(waves.to(self.projection.weight.dtype))
        return inputs + added
