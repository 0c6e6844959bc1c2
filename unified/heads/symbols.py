"""What heads have in common: a code is one or more symbols, and a head gives logits [..., symbols, values].

Given the hidden state the symbols of a code are independent, so its log-probability is a sum over symbols;
guidance and the sampler work on the last axis and need not know which head they serve.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Head(Protocol):
    """Codes as input vectors, hidden states as distributions over codes. Members are modules: `embed` and
    `forward` call sub-modules only, so that sharded parameters are gathered."""

    symbols: int
    values: int

    def embed(self, codes: Tensor) -> Tensor: ...  # [...] -> [..., D]

    def logits(self, hidden: Tensor) -> Tensor: ...  # [..., D] -> [..., symbols, values], float32

    def to_symbols(self, codes: Tensor) -> Tensor: ...  # [...] -> [..., symbols]

    def to_codes(self, symbols: Tensor) -> Tensor: ...  # [..., symbols] -> [...]


def log_prob(logits: Tensor, symbols: Tensor) -> Tensor:
    """Log-probability of codes in float32: logits [..., S, V], symbols [..., S] -> [...]."""
    logits = logits.float()
    chosen = logits.gather(-1, symbols[..., None]).squeeze(-1)
    return (chosen - torch.logsumexp(logits, dim=-1)).sum(dim=-1)
