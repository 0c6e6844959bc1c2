"""One softmax over all codes, and one embedding vector for each."""

from __future__ import annotations

from torch import Tensor, nn


class CategoricalHead(nn.Module):
    """`codes` codes; hidden states and embeddings of width `width`."""

    def __init__(self, width: int, codes: int) -> None:
        super().__init__()
        self.symbols, self.values = 1, codes
        self.embedding = nn.Embedding(codes, width)
        self.projection = nn.Linear(width, codes, bias=False)

    def embed(self, codes: Tensor) -> Tensor:
        return self.embedding(codes)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.projection(hidden).float().unsqueeze(-2)

    def to_symbols(self, codes: Tensor) -> Tensor:
        return codes.unsqueeze(-1)

    def to_codes(self, symbols: Tensor) -> Tensor:
        return symbols.squeeze(-1)
