"""One softmax over all codes, and one embedding vector for each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unified.heads.distribution import Categorical

SHARED = 0.9  # of a row's first value is what its code's vector says, the rest is its own


class CategoricalHead(nn.Module):
    """`codes` codes; hidden states and embeddings of width `width`. `embeds`: it embeds codes too (a further
    read-out of the same codes does not)."""

    def __init__(self, width: int, codes: int, *, embeds: bool = True) -> None:
        super().__init__()
        self.symbols, self.values = 1, codes
        if embeds:
            self.embedding = nn.Embedding(codes, width)
        self.projection = nn.Linear(width, codes, bias=False)

    @torch.no_grad()
    def start_from(self, vectors: Tensor, std: float) -> None:
        """First weights from the tokenizer's code vectors [codes, dim] of length 1: one random linear image
        of them for embedding and projection, so that what is learned of a code holds for codes like it."""
        image = torch.randn(vectors.shape[1], self.embedding.weight.shape[1]) * std
        for table in (self.embedding.weight, self.projection.weight):
            own = torch.randn(table.shape) * std
            table.copy_(SHARED * (vectors.to(image) @ image) + (1 - SHARED**2) ** 0.5 * own)

    def embed(self, codes: Tensor) -> Tensor:
        return self.embedding(codes)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.projection(hidden).float().unsqueeze(-2)

    def distribution(self, hidden: Tensor) -> Categorical:
        return Categorical(self.logits(hidden))

    def to_symbols(self, codes: Tensor) -> Tensor:
        return codes.unsqueeze(-1)

    def to_codes(self, symbols: Tensor) -> Tensor:
        return symbols.squeeze(-1)
