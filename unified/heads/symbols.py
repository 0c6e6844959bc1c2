"""What heads have in common: input vectors for values, and distributions of values for hidden states.

A value is a code, made of one or more symbols, or a vector of channels. Given the hidden state the symbols of
a code are independent, so its log-probability is a sum over symbols.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from unified.heads.distribution import Distribution


class Head(Protocol):
    """What decoding needs of any head. Members are modules: `embed` and `forward` call sub-modules only, so
    that sharded parameters are gathered."""

    def embed(self, codes: Tensor) -> Tensor: ...  # codes [...] or vectors [..., C] -> [..., D]

    def distribution(self, hidden: Tensor) -> Distribution: ...  # [..., D] -> [...]


class TableHead(Head, Protocol):
    """Codes as one or more symbols, each with logits: one softmax over all codes, or one per bit."""

    symbols: int
    values: int

    def logits(self, hidden: Tensor) -> Tensor: ...  # [..., D] -> [..., symbols, values], float32

    def to_symbols(self, codes: Tensor) -> Tensor: ...  # [...] -> [..., symbols]

    def to_codes(self, symbols: Tensor) -> Tensor: ...  # [..., symbols] -> [...]


class ContinuousHead(Head, Protocol):
    """Vectors of `channels` values."""

    channels: int

    def loss(self, hidden: Tensor, values: Tensor, generator: torch.Generator) -> Tensor:
        """What training minimises, of values [..., C] given hidden states [..., D] -> [...], float32. A head
        that draws noise takes it from the generator."""
        ...
