"""A Gaussian for every hidden state: continuous values by regression, with an exact likelihood.

With a variance that is fixed its negative log-likelihood is the squared error; one that is learned says where
the values are uncertain. A single mode: values of several modes need a diffusion head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from unified.finite import check_number
from unified.heads.distribution import Gaussian

NARROWEST = -7.0  # the lowest log standard deviation, so that a value met exactly has a finite likelihood


class RegressionHead(nn.Module):
    """`channels` values by a linear map of `width`. `std`: the standard deviation of all channels; None: of
    each channel as learned."""

    def __init__(self, width: int, channels: int, std: float | None = None) -> None:
        super().__init__()
        check_number("std", 1.0 if std is None else std)
        if std is not None and not std > 0:
            raise ValueError(f"std must be positive, or None to learn it, got {std}")
        self.channels, self.std = channels, std
        self.embedding = nn.Linear(channels, width)
        self.projection = nn.Linear(width, channels if std else 2 * channels)

    def embed(self, codes: Tensor) -> Tensor:
        """Vectors [..., C] -> [..., D]."""
        return self.embedding(codes.to(self.embedding.weight.dtype))

    def distribution(self, hidden: Tensor) -> Gaussian:
        projected = self.projection(hidden).float()
        if self.std:
            return Gaussian(projected, torch.full_like(projected, math.log(self.std)))
        mean, log_std = projected.chunk(2, dim=-1)
        return Gaussian(mean, log_std.clamp(min=NARROWEST))

    def loss(self, hidden: Tensor, values: Tensor, generator: torch.Generator) -> Tensor:
        """Mean over channels of the squared error (fixed variance) or of the negative log-likelihood."""
        found = self.distribution(hidden)
        if self.std:
            return (values.float() - found.mean).square().mean(dim=-1)
        return -found.log_prob(values) / self.channels
