"""Numbers by value: a small network says the value at a hidden state; values are read as Fourier features.

IG-LLM (arXiv 2404.15228) writes one [NUM] id where a program has a number and lets an MLP say its value, in
place of digits: the loss then knows that 1.99 is near 2.00. The published text leaves open whether a value is
read again; here `embed` does, for streams that show it to what follows. The likelihood is a Gaussian of fixed
deviation, so that the loss is the squared error. Simplified: one network for all fields, which are to be
scaled to about [-1, 1] outside. Tests: tests/unified/heads/test_numbers.py and, as for all continuous heads,
test_distribution.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from unified.finite import check_number
from unified.heads.distribution import Gaussian

WAVES = 6  # frequencies of the features: half a period of the slowest spans [-1, 1]


class NumberHead(nn.Module):
    """`channels` values by two linear maps of `width`, a GELU between them. `std`: the standard deviation
    that likelihoods are measured with."""

    def __init__(self, width: int, channels: int = 1, std: float = 1.0) -> None:
        super().__init__()
        check_number("std", std)
        if not std > 0:
            raise ValueError(f"std must be positive, got {std}")
        self.channels, self.std = channels, std
        self.layers = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, channels))
        self.embedding = nn.Linear(channels * (2 * WAVES + 1), width)

    def embed(self, codes: Tensor) -> Tensor:
        """Values [..., C] -> [..., D]."""
        return self.embedding(waves(codes).flatten(-2).to(self.embedding.weight.dtype))

    def distribution(self, hidden: Tensor) -> Gaussian:
        mean = self.layers(hidden).float()
        return Gaussian(mean, torch.full_like(mean, math.log(self.std)))

    def loss(self, hidden: Tensor, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """[...]: mean over channels of the squared error of values [..., C]."""
        return (values.float() - self.distribution(hidden).mean).square().mean(dim=-1)


def waves(values: Tensor) -> Tensor:
    """Values [...] -> [..., 13]: a constant, then cosines and sines of rising frequency; their norm is the
    same for all values."""
    rates = math.pi / 2 * 2.0 ** torch.arange(WAVES, device=values.device)
    angles = values.float()[..., None] * rates
    return torch.cat([torch.ones_like(angles[..., :1]), angles.cos(), angles.sin()], dim=-1)
