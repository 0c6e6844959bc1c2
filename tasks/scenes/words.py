"""Words for objects, numbers and places, and how far an answer may differ in wording and still be the
same."""

from __future__ import annotations

import re

import numpy as np
from unified.tasks.scenes.choice import chance, pick
from unified.tasks.scenes.scene import SHAPES, Filter

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
SYNONYMS: dict[str, tuple[str, ...]] = {
    "small": ("small", "little"),
    "medium": ("medium", "medium-sized"),
    "large": ("large", "big"),
    "solid": ("solid", "filled"),
    "outline": ("outlined", "hollow"),
}
MEANINGS = {word: value for value, words in SYNONYMS.items() for word in words} | {"outline": "outline"}
NOUNS = ("object", "shape", "thing")
PLURALS = {shape: {"cross": "crosses"}.get(shape, shape + "s") for shape in (*SHAPES, *NOUNS)}
SINGULARS = {plural: shape for shape, plural in PLURALS.items()}


def adjective(rng: np.random.Generator, value: str) -> str:
    """The usual word for a size or fill, now and then another."""
    words = SYNONYMS[value]
    return words[0] if chance(rng, 0.7) else pick(rng, words)


def bare(rng: np.random.Generator, wanted: Filter, number: int = 1) -> str:
    """What the filter names, without an article: "large solid red circle", "blue things"."""
    noun = wanted.shape or pick(rng, NOUNS)
    adjectives = [adjective(rng, value) for value in (wanted.size, wanted.fill) if value]
    words = [*adjectives, *([wanted.colour] if wanted.colour else []), noun if number == 1 else PLURALS[noun]]
    return " ".join(words)


def a(rng: np.random.Generator, wanted: Filter) -> str:
    """The same with its indefinite article."""
    text = bare(rng, wanted)
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def the(rng: np.random.Generator, wanted: Filter) -> str:
    return f"the {bare(rng, wanted)}"


def counted(rng: np.random.Generator, wanted: Filter, number: int) -> str:
    """ "a red circle", "three small stars"."""
    return a(rng, wanted) if number == 1 else f"{NUMBERS[number]} {bare(rng, wanted, number)}"


def listed(parts: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence(text: str, end: str = ".") -> str:
    return text[0].upper() + text[1:] + end


def normal(text: str) -> str:
    """An answer reduced to what it says: lower case, no punctuation or articles, digits, one word per
    value."""
    words = re.sub(r"[^a-z0-9\- ]+", " ", text.lower()).split()
    plain = {"gray": "grey", "center": "centre", **MEANINGS}
    digits = {name: str(number) for number, name in enumerate(NUMBERS) if number} | {"zero": "0", "none": "0"}
    kept = [word for word in words if word not in ("a", "an", "the")]
    return " ".join(digits.get(word, plain.get(word, word)) for word in kept)
