"""Vectors as whole numbers: every channel is rounded to one of 2^bits even levels, and the levels of all
channels are the digits of one id.

So a stream of ids holds continuous latents: a head draws vectors, and what is kept, fed and read again is the
vector that the id spells. An id has at most 62 bits; the error of a channel is at most `reach` / 2^bits.
Latents are scaled to a standard deviation of about 1 first (`unified/checkpoints/latent_tokenizer.py`).
Test: tests/tokenizers/test_latent_grid.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ID_BITS = 62
LEAST_BITS, MOST_BITS = 6, 15  # six lose little (TokenBridge, arXiv 2503.16430)


def bits_for(channels: int) -> int:
    """The most bits a channel has in one id. ValueError for more channels than an id can spell."""
    bits = min(ID_BITS // max(channels, 1), MOST_BITS)
    if channels < 2 or bits < LEAST_BITS:
        raise ValueError(
            f"a latent needs 2 to {ID_BITS // LEAST_BITS} channels: an id has {ID_BITS} bits, and a channel "
            f"takes at least {LEAST_BITS}, got {channels} channels"
        )
    return bits


class LatentGrid:
    """`channels` values of `bits` each, from -`reach` to `reach`; what lies outside is moved to the border.
    ValueError for sizes that an id cannot spell."""

    def __init__(self, channels: int, bits: int = 0, reach: float = 4.0) -> None:
        most = bits_for(channels)
        if not 1 <= (bits or most) <= most:
            raise ValueError(f"{channels} channels have at most {most} bits each in an id, got {bits}")
        if not (math.isfinite(reach) and reach > 0):
            raise ValueError(f"reach must be a positive number, got {reach}")
        self.channels, self.bits, self.reach = channels, bits or most, reach
        self.codes: int = 2 ** (self.bits * channels)

    def to_codes(self, vectors: Tensor) -> Tensor:
        """[..., C] -> int64 [...]; the first channel has the most significant digits."""
        scaled = (vectors.double() + self.reach) * (2**self.bits / (2 * self.reach))
        levels = scaled.floor().clamp(0, 2**self.bits - 1).long()
        return (levels << self._shifts(vectors.device)).sum(dim=-1)

    def to_vectors(self, codes: Tensor) -> Tensor:
        """int64 [...] -> float32 [..., C], the middle of every level."""
        levels = codes.long()[..., None] >> self._shifts(codes.device) & 2**self.bits - 1
        found = (levels.double() + 0.5) * (2 * self.reach / 2**self.bits) - self.reach
        return found.float()

    def _shifts(self, device: torch.device) -> Tensor:
        return self.bits * torch.arange(self.channels - 1, -1, -1, device=device)
