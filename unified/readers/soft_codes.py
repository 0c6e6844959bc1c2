"""Soft visual embedding: a continuous latent is read as a mixture of the embeddings of discrete codes.

w_k = softmax_k(-|v - c_k|^2 / temperature),   embedding = sum over k of w_k E_k As the temperature
falls this becomes the embedding of the nearest code, so that a model of discrete codes is upgraded to
continuous input. Source: Kou et al., Orthus, arXiv 2412.00127. Test:
tests/unified/readers/test_soft_codes.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unified.finite import check_count, check_tree


def soft_weights(latents: Tensor, codebook: Tensor, temperature: float = 1.0) -> Tensor:
    """latents [..., C], codebook [M, C] -> weights [..., M] that sum to 1. ValueError unless the
    temperature is positive."""
    if not temperature > 0:
        raise ValueError(f"the temperature of soft codes must be positive, got {temperature}")
    squares = latents.square().sum(dim=-1, keepdim=True) + codebook.square().sum(dim=-1)
    distances = squares - 2 * latents @ codebook.T
    return torch.softmax(-distances / temperature, dim=-1)


def soft_embedding(latents: Tensor, codebook: Tensor, table: Tensor, temperature: float = 1.0) -> Tensor:
    """latents [..., C], codebook [M, C], the embeddings of the codes [M, D] -> [..., D]."""
    return soft_weights(latents, codebook, temperature) @ table


@dataclass(frozen=True, kw_only=True)
class SoftCodeReaderConfig:
    """`codes` of the visual tokenizer, `width`: channels of a latent before quantisation."""

    codes: int = 64
    width: int = 16
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_tree(self)
        check_count("codes", self.codes, 1)
        check_count("width", self.width, 1)
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")


class SoftCodeReader(nn.Module):
    """Latents of C channels -> D, by the model's own embeddings of codes. The codebook is to be copied from
    the tokenizer, and is trained."""

    def __init__(
        self, config: SoftCodeReaderConfig, width: int, embed: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        if embed is None:
            raise ValueError("soft codes are read by embeddings of codes: there are none")
        self.config, self.embed = config, embed
        self.codebook = nn.Embedding(config.codes, config.width)

    def forward(self, values: Tensor) -> Tensor:
        """values [N, C] -> [N, D]."""
        codes = torch.arange(self.config.codes, device=values.device)
        book, table = self.codebook(codes), self.embed(codes)
        return soft_embedding(values.to(book.dtype), book, table, self.config.temperature)
