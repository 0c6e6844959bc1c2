"""Codes that look alike count together: a code is as good as all codes near it are likely.

Many codes of a tokenizer look nearly the same. What is almost certain in a picture, such as a textured
ground, is then spread over dozens of them, and the likeliest single code may be a stray one. Counted with
its neighbours, the code is chosen that gains most: minimum Bayes risk decoding (Kumar and Byrne, NAACL
2004) with the gain exp(-distance^2 / (2 width^2)) between the codes' vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unified.decoding.drawing import Generator
from unified.decoding.sampling import Sampler
from unified.heads.distribution import Categorical
from unified.stream.processor import Processor
from unified.tokenizers.quantise import squared_distances

CANDIDATES = 64  # the likeliest codes, which alone are counted and chosen from


@dataclass(frozen=True)
class Alike:
    """`codebook` [V, C] holds the codes' vectors; codes up to about `width` apart count together, in units of
    the root mean square distance of all codes from their mean."""

    codebook: Tensor
    width: float

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"the width within which codes are alike must be positive, got {self.width}")

    def __call__(self, predicted: Categorical) -> Categorical:
        """A softmax [B, n, 1, V] over the codes -> what each gains, in its place; nothing for all but the
        candidates."""
        logits = predicted.logits
        likely, codes = logits.softmax(dim=-1).topk(min(CANDIDATES, logits.shape[-1]))
        codebook = self.codebook.to(logits)
        spread = codebook.var(dim=0, correction=0).sum()
        distances = squared_distances(codebook[codes], codebook[codes])
        near = torch.exp(distances / (-2 * self.width**2 * spread))
        gained = (near @ likely[..., None]).squeeze(-1)
        return Categorical(torch.full_like(logits, float("-inf")).scatter(-1, codes, gained.log()))


def alike_codes(model: Generator, processor: Processor, sampler: Sampler, width: float) -> Alike | None:
    """For a model's codes; None for width 0, for a sampler with a temperature (gains are no distribution to
    draw from), and for heads that have no softmax over codes."""
    if not width or sampler.temperature or processor.visual is None or model.head.symbols > 1:
        return None
    return Alike(processor.visual.codebook().detach(), width)
