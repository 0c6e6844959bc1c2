"""How people type: letters all small, no full stop, British or American spelling, now and then a slip.

Slips are those of single keys (two letters exchanged, one left out, one doubled), inside longer words, so
that every word can still be told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

SHORTEST = 5  # letters of a word with a slip
AMERICAN = {"colour": "color", "grey": "gray", "centre": "center", "favourite": "favorite"}
_AMERICAN = re.compile("|".join(AMERICAN))
_WORD = re.compile(rf"[a-z]{{{SHORTEST},}}")


@dataclass(frozen=True, kw_only=True)
class Hand:
    """Shares of texts that are in small letters, that have no mark at the end, that are spelt the American
    way, and that have a slip."""

    small: float = 0.35
    bare: float = 0.35
    american: float = 0.4
    slips: float = 0.12


def typed(rng: np.random.Generator, text: str, hand: Hand | None = None) -> str:
    """The text as it might be typed: its first letter is a capital one unless all are small, and it ends with
    a mark or not."""
    hand = hand or Hand()
    text = text[0].upper() + text[1:]
    if text[-1] not in ".?!":
        text += "." if rng.random() < 0.85 else "!"
    if rng.random() < hand.american:
        text = _AMERICAN.sub(lambda found: AMERICAN[found[0]], text)
    if rng.random() < hand.small:
        text = text.lower()
    if rng.random() < hand.bare:
        text = text.rstrip(".?!")
    return slipped(rng, text) if rng.random() < hand.slips else text


def slipped(rng: np.random.Generator, text: str) -> str:
    """The text with one slip inside one of its longer words, which keeps its first and last letter; as it is
    if it has none."""
    words = list(_WORD.finditer(text))
    if not words:
        return text
    word = words[int(rng.integers(len(words)))]
    at = word.start() + int(rng.integers(1, len(word[0]) - 2))
    first, second = text[at], text[at + 1]
    slip = (second + first, second, first + first + second)[int(rng.integers(3))]
    return text[:at] + slip + text[at + 2 :]
