"""Legibility of text after a tokenizer: what a reader (OCR) makes of a reconstruction against a reference.

`character` and `vtbench_word` are VTBench's rates (arXiv 2505.13439, huawei-lin/VTBench), pooled over all
pairs: sums of edit distances over sums of lengths. Quirk of its word error rate: the distance is over
*characters* of the words joined by single blanks, divided by the number of words; `word` is the usual rate
over words. Its reference is the reading of the original image; where the true text is known that is the
better one. `python -m unified.checkpoints verify` compares both with the released code.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Levenshtein distance of two sequences (unit costs of insertion, deletion and substitution)."""
    if len(a) < len(b):
        a, b = b, a
    before = list(range(len(b) + 1))
    for row, one in enumerate(a, start=1):
        now = [row]
        for column, other in enumerate(b, start=1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (one != other)))
        before = now
    return before[-1]


@dataclass(frozen=True)
class ErrorRate:
    """`errors` of a reference of `length` units."""

    errors: int = 0
    length: int = 0

    def __add__(self, other: ErrorRate) -> ErrorRate:
        """Of both references together."""
        return ErrorRate(self.errors + other.errors, self.length + other.length)

    @property
    def rate(self) -> float:
        """0 for an empty reference, whatever the errors; not bounded by 1."""
        return self.errors / self.length if self.length else 0.0


def character_errors(read: str, reference: str) -> ErrorRate:
    """Code points as they come: neither case, Unicode form nor whitespace is normalised."""
    return ErrorRate(edit_distance(read, reference), len(reference))


def word_errors(read: str, reference: str) -> ErrorRate:
    """Words apart at whitespace."""
    words = reference.split()
    return ErrorRate(edit_distance(read.split(), words), len(words))


def vtbench_word_errors(read: str, reference: str) -> ErrorRate:
    """Characters of the words in error over the number of words."""
    words = reference.split()
    return ErrorRate(edit_distance(" ".join(read.split()), " ".join(words)), len(words))


def pooled(rates: Iterable[ErrorRate]) -> ErrorRate:
    return sum(rates, ErrorRate())
