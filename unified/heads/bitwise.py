"""One two-way softmax per bit, for codes that are bits (Infinity, arXiv 2412.04431).

2**32 codes need no table: a code is embedded by a linear map of its bits as +-1/sqrt(bits). Bit 0 is the most
significant, as in the published quantiser.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unified.heads.distribution import Categorical


class BitwiseHead(nn.Module):
    """`codes` must be a power of two, at most 2**62. `embeds`: it embeds codes too."""

    def __init__(self, width: int, codes: int, *, embeds: bool = True) -> None:
        super().__init__()
        if codes & (codes - 1) or not 2 <= codes <= 2**62:
            raise ValueError(f"a bitwise head needs a power of two of codes up to 2**62, got {codes}")
        self.symbols, self.values = codes.bit_length() - 1, 2
        if embeds:
            self.embedding = nn.Linear(self.symbols, width)
        self.projection = nn.Linear(width, 2 * self.symbols)

    def embed(self, codes: Tensor) -> Tensor:
        signs = (2 * self.to_symbols(codes) - 1) / self.symbols**0.5
        return self.embedding(signs.to(self.embedding.weight.dtype))

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits 2j and 2j + 1 belong to bit j being 0 and 1."""
        return self.projection(hidden).float().unflatten(-1, (self.symbols, 2))

    def distribution(self, hidden: Tensor) -> Categorical:
        return Categorical(self.logits(hidden))

    def to_symbols(self, codes: Tensor) -> Tensor:
        return bits_of(codes, self.symbols)

    def to_codes(self, symbols: Tensor) -> Tensor:
        return codes_of(symbols)


def bits_of(codes: Tensor, count: int) -> Tensor:
    """Codes [...] of `count` bits, int64 -> their bits [..., count], the most significant first."""
    return codes.unsqueeze(-1) >> _shifts(count, codes) & 1


def codes_of(bits: Tensor) -> Tensor:
    """The inverse, for at most 62 bits."""
    return (bits << _shifts(bits.shape[-1], bits)).sum(dim=-1)


def _shifts(count: int, like: Tensor) -> Tensor:
    return torch.arange(count - 1, -1, -1, device=like.device)
