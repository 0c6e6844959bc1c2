"""Learned queries that pool many hidden states into few: softmax(A F^T) F, without projections.

Source: FLASH, arXiv 2505.12728, where 576 visual positions become 64 latents that a drafter reads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LatentPooling(nn.Module):
    """`count` queries A [C, D] for hidden states of `width`."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"pooling needs at least one query, got {count}")
        self.queries = nn.Parameter(torch.randn(count, width) * width**-0.5)

    def weights(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Hidden states [B, N, D] -> [B, C, N], sums 1; `mask` [B, N] bool: those that count."""
        scores = self.queries @ hidden.transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], float("-inf"))
        return scores.softmax(dim=-1)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, N, D] -> [B, C, D]."""
        return self.weights(hidden, mask) @ hidden
