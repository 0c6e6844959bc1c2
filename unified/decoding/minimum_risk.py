"""Minimum-risk decoding over similar codes: the code of largest expected gain in place of the likeliest.

Many codes of a tokenizer decode to nearly the same pixels, so the probability of one appearance, such as a
textured background, is spread over dozens of codes and the likeliest single code may be an outlier. Minimum
Bayes risk decoding (Kumar and Byrne, NAACL 2004) with the gain exp(-distance^2 / (2 width^2)) between
codebook vectors. Simplified: only the `CANDIDATES` likeliest codes are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unified.decoding.drawing import Generator
from unified.decoding.sampling import Sampler
from unified.finite import check_number
from unified.heads.distribution import Categorical, Distribution
from unified.stream.processor import Processor
from unified.tokenizers.quantise import squared_distances

CANDIDATES = 64  # the likeliest codes of a slot: the only ones that are compared and chosen from


@dataclass(frozen=True)
class MinimumRisk:
    """`codebook` [V, C]; `width`: of the Gaussian kernel between codebook vectors, in units of the root mean
    square distance of all of them from their mean. ValueError unless it is positive and finite."""

    codebook: Tensor
    width: float

    def __post_init__(self) -> None:
        check_number("the width of minimum-risk decoding", self.width, 0)
        if not self.width > 0:
            raise ValueError(f"the width of minimum-risk decoding must be positive, got {self.width}")

    def __call__(self, predicted: Distribution) -> Categorical:
        """Logits [B, n, 1, V] over the codes -> log expected gains [B, n, 1, V]; -inf for all but the
        candidates."""
        logits: Tensor = predicted.logits  # type: ignore[attr-defined]
        likely, codes = logits.softmax(dim=-1).topk(min(CANDIDATES, logits.shape[-1]))
        codebook = self.codebook.to(logits)
        spread = codebook.var(dim=0, correction=0).sum()
        distances = squared_distances(codebook[codes], codebook[codes])
        near = torch.exp(distances / (-2 * self.width**2 * spread))
        gained = (near @ likely[..., None]).squeeze(-1)
        return Categorical(torch.full_like(logits, float("-inf")).scatter(-1, codes, gained.log()))


def minimum_risk_decoding(
    model: Generator, processor: Processor, sampler: Sampler, width: float
) -> MinimumRisk | None:
    """Minimum-risk decoding of a model's image codes. None for width 0, for a sampler with a temperature
    (gains are no distribution to sample from), and for heads without a softmax over the codes."""
    if not width or sampler.temperature or processor.visual is None or model.head.symbols > 1:
        return None
    return MinimumRisk(processor.visual.codebook().detach(), width)
