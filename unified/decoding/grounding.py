"""M3ID: mutual-information decoding, which sets text off against the same text without its images ever more.

    l_t + w_t (l_t - u_t),   w_t = exp(decay t) - 1 at the t-th new token
with log-probabilities l with the images and u without: the rule of `contrasted` with a weight that grows, as
what a model says depends less and less on what it sees. Favero et al., "Multi-modal hallucination control by
visual information grounding", arXiv 2403.14003; t = 1 for the first token, as in the public re-implementation
(sangminwoo/AvisC), which has no cap and always acts. The paper acts only where the model is not confident.
`pairs` makes the label-free pairs of its variant with DPO. Tests: tests/unified/decoding/test_grounding.py;
`unified/checkpoints/m3id_verify.py` compares with the re-implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from unified.decoding.guidance import check_contrast, contrasted
from unified.finite import check_number

LARGEST_DECAY = 10.0


class Contrast(Protocol):
    """How text is set off against the same text without its images."""

    @property
    def active(self) -> bool:
        """Whether it does anything at all."""
        ...

    def mixed(self, logits: Tensor, blind: Tensor, numbers: Tensor) -> Tensor:
        """Logits [B, n, V] with and without the images -> [B, n, V]; `numbers` [B, n] of the new tokens, from
        1."""
        ...


@dataclass(frozen=True)
class VisualContrast:
    """Visual contrastive decoding (`contrasted`) with one weight of at least 0."""

    weight: float

    def __post_init__(self) -> None:
        check_contrast(self.weight)

    @property
    def active(self) -> bool:
        return self.weight != 0

    def mixed(self, logits: Tensor, blind: Tensor, numbers: Tensor) -> Tensor:
        return contrasted(logits, blind, self.weight)


@dataclass(frozen=True, kw_only=True)
class MutualInformation:
    """`decay`: by how much the weight grows with each token (0 is off); `cap`: the largest 1 + weight;
    `confident`: tokens stay as they are where the largest probability is at least this (1: nowhere);
    `plausible`: share of the largest probability below which a token is excluded. ValueError for a setting
    out of range."""

    decay: float = 0.02
    cap: float = 10.0
    confident: float = 1.0
    plausible: float = 0.1

    def __post_init__(self) -> None:
        check_number("decay", self.decay, 0, LARGEST_DECAY)
        check_number("cap", self.cap, 1)
        for name in ("confident", "plausible"):
            check_number(name, getattr(self, name), 0, 1)

    @property
    def active(self) -> bool:
        return self.decay > 0

    def weights(self, numbers: Tensor) -> Tensor:
        """w_t of t [...], float64."""
        return (torch.expm1(self.decay * numbers.double())).clamp(max=self.cap - 1)

    def mixed(self, logits: Tensor, blind: Tensor, numbers: Tensor) -> Tensor:
        weights = self.weights(numbers).to(logits.device, torch.float32)[..., None]
        found = contrasted(logits, blind, weights, self.plausible)
        if self.confident >= 1:
            return found
        sure = logits.softmax(dim=-1).amax(dim=-1, keepdim=True) >= self.confident
        return torch.where(sure, logits, found)


def as_contrast(given: float | Contrast) -> Contrast:
    """A weight, or a contrast as it is. ValueError for what is neither, or a weight out of range."""
    other: Any = given
    return other if hasattr(given, "mixed") else VisualContrast(other)


def prompt_dependency(logits: Tensor, blind: Tensor) -> Tensor:
    """[...] in [0, 1]: Hellinger distance of the distributions of logits [..., V] with and without the
    images."""
    overlap = (0.5 * (logits.log_softmax(dim=-1) + blind.log_softmax(dim=-1))).exp().sum(dim=-1)
    return (1 - overlap).clamp(min=0).sqrt()


def pairs(
    prompts: Sequence[Sequence[int]], grounded: Sequence[Sequence[int]], plain: Sequence[Sequence[int]]
) -> list[tuple[list[int], list[int]]]:
    """Preference pairs without labels, as DPO takes them: the reply that was sampled with M3ID is preferred
    to the one that was not; both are samples with their prompt. Equal replies are left out. ValueError unless
    every prompt has two replies."""
    if not len(prompts) == len(grounded) == len(plain):
        raise ValueError(
            f"{len(prompts)} prompts need as many replies of each kind, got {len(grounded)} and {len(plain)}"
        )
    replies = zip(prompts, grounded, plain, strict=True)
    return [([*prompt, *y], [*prompt, *other]) for prompt, y, other in replies if list(y) != list(other)]
