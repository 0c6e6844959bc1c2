"""Row and column of a code in its image as a learned embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GridEmbedding(nn.Module):
    """Row and column of a code in its image, as sines and cosines, mapped linearly. Rotary embeddings tell
    how far apart positions are, and text stands at no fixed distance from an image: that something is "at the
    top left" is learned much faster from this (VAR, arXiv 2404.02905, has absolute places too)."""

    def __init__(self, width: int, frequencies: int = 16) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.projection = nn.Linear(4 * frequencies, width, bias=False)

    def initialise(self, std: float) -> None:
        """First weights: as large as what it is added to."""
        nn.init.normal_(self.projection.weight, std=std / self.projection.in_features**0.5)

    def forward(self, positions: Tensor) -> Tensor:
        """positions [3, B, T] -> [B, T, D]; zero offset from the time axis for everything but images."""
        rates = 2.0 ** (-torch.arange(self.frequencies, device=positions.device) / 2)
        angles = (positions[1:] - positions[:1])[..., None] * rates  # [2, B, T, F]
        waves = torch.cat(
            [angles[0].sin(), angles[0].cos() - 1, angles[1].sin(), angles[1].cos() - 1], dim=-1
        )
        return self.projection(waves.to(self.projection.weight.dtype))
