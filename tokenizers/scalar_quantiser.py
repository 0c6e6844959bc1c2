"""Quantisation of a finished continuous tokenizer, one scalar at a time: nothing is trained.

Levels are the means of equally probable bins of the standard normal distribution. A value is mapped from
its range to that of the levels and takes the nearest one; the levels' own edges play no part. From about 10
bits on the outermost bins are empty, as published, and their levels are 0. Source: Wang et al.,
TokenBridge: Bridging Continuous and Discrete Tokens for Autoregressive Visual Generation, arXiv 2503.16430.
Test: tests/tokenizers/test_scalar_quantiser.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SMALLEST = 1e-10  # in place of the probability of an empty bin


class ScalarQuantiser:
    """`bits` a scalar; `reach`: where the normal distribution is cut off; values are kept within `low` to
    `high`. Derived: `edges` [2^bits + 1] and `levels` [2^bits], float32. ValueError for settings out of
    range."""

    def __init__(self, bits: int = 6, reach: float = 3.0, low: float = -5.0, high: float = 5.0) -> None:
        if not 1 <= bits <= 16 or not reach > 0 or not low < high:
            raise ValueError(
                "a scalar quantiser needs 1 to 16 bits, a positive reach and low below high, got "
                f"{bits}, {reach}, {low} and {high}"
            )
        self.reach, self.low, self.high = reach, low, high
        quantiles = torch.linspace(0, 1, 2**bits + 1).double()
        self.edges = torch.special.ndtri(quantiles).float().clamp(-reach, reach)
        below, above = self.edges[:-1], self.edges[1:]
        share = _cumulative(above) - _cumulative(below)
        self.levels = (_density(below) - _density(above)) / torch.where(share == 0, SMALLEST, share)

    @property
    def codes(self) -> int:
        """How many there are of a scalar."""
        return len(self.levels)

    def encode(self, values: Tensor) -> Tensor:
        """Values [...] -> codes [...] int64, the first of equally near ones."""
        scaled = (values - self.low) / (self.high - self.low) * (2 * self.reach) - self.reach
        distances = (scaled.clamp(-self.reach, self.reach)[..., None] - self.levels.to(values)).abs()
        return distances.argmin(dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [...] -> values [...], float32."""
        levels = self.levels.to(codes.device)[codes]
        return (levels + self.reach) / (2 * self.reach) * (self.high - self.low) + self.low


def _density(x: Tensor) -> Tensor:
    """In float32, with an exponential that is rounded once: levels are small differences of these."""
    return torch.exp((-0.5 * x.square()).double()).float() / math.sqrt(2 * math.pi)


def _cumulative(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))
