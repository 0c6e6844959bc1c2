"""LANTERN: speculative sampling of images whose acceptance is relaxed by codes that look alike (Jang et al.,
arXiv 2410.03355; LANTERN++, arXiv 2502.06352). `relaxation.py` has the rule and what it does to the law of
what is drawn. Text is verified exactly. Log-probabilities of drawn codes are the model's own, not those with
which they were drawn: for policy gradients such images are off-policy. Tests:
tests/unified/decoding/test_relaxation.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from unified.decoding.drawing import Choice
from unified.decoding.image import ImageRun
from unified.decoding.strategies.draft_tree import DraftTree
from unified.decoding.strategies.drafts import Draft, Shallow
from unified.decoding.strategies.relaxation import Relaxed, neighbour_table
from unified.decoding.strategies.speculative import Speculative
from unified.decoding.text import TextRun


@dataclass(frozen=True, kw_only=True)
class Lantern:
    """`codebook` [V, C] of the visual tokenizer; `delta`: the bound on what is credited, from 0 to 1 additive
    (0 is plain speculative sampling), from 1 on `multiplicative`; `nearest`: how many neighbours of a code
    count; `draft`, `length` and `tree` as of `Speculative`."""

    codebook: Tensor
    delta: float = 0.1
    multiplicative: bool = False
    nearest: int = 1000
    draft: Draft = field(default_factory=Shallow)
    length: int = 4
    tree: DraftTree | None = None

    def __post_init__(self) -> None:
        if self.codebook.dim() != 2 or len(self.codebook) < 2 or self.nearest < 1:
            raise ValueError(
                f"neighbours need a codebook [V, C] of at least 2 codes and nearest >= 1, got "
                f"{tuple(self.codebook.shape)} and {self.nearest}"
            )
        _ = self._speculative  # what is out of range is refused here

    @cached_property
    def _speculative(self) -> Speculative:
        table = neighbour_table(self.codebook, self.nearest)
        rule = Relaxed(neighbours=table, delta=self.delta, multiplicative=self.multiplicative)
        return Speculative(draft=self.draft, length=self.length, rule=rule, tree=self.tree)

    def text(self, run: TextRun) -> Iterator[list[int | None]]:
        yield from self._speculative.text(run)

    def image(self, run: ImageRun) -> Iterator[Choice]:
        yield from self._speculative.image(run)
