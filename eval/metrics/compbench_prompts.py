"""What T2I-CompBench reads in a prompt: objects, relation, numbers, questions; by rules on tagged words.

A prompt comes as `Word`s with the universal part of speech that a tagger gives (the released scripts use
spaCy), so that nothing here needs one. Quirks of the released scripts (Karine-Huang/T2I-CompBench) are kept
and named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RELATIONS = (
    "on side of",
    "next to",
    "near",
    "on the left of",
    "on the right of",
    "on the bottom of",
    "on the top of",
    "on top of",
)
RELATIONS_3D = ("in front of", "behind", "hidden")
# "on the left" and "on the right" have no "of": `relation` still asks for it, so they count where it follows.
PHRASES = ("on top of", "on bottom of", "on the left", "on the right", "next to", "on side of", "near")
PEOPLE = ("girl", "boy", "man", "woman")
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
ARTICLES = ("a", "an")
NO_QUESTIONS = ("top", "the side", "the left", "the right")
QUESTIONS = 8


@dataclass(frozen=True)
class Word:
    """`tag`: the universal part of speech, such as NOUN, PROPN, ADJ."""

    text: str
    tag: str


def relation(prompt: str, known: Sequence[str] = RELATIONS) -> str | None:
    """The first of `known` that the prompt contains."""
    return next((name for name in known if name in prompt), None)


def simple_names(words: Sequence[Word]) -> list[str]:
    """The first and the last noun as classes of a detector; [] without any."""
    nouns = [word.text for word in words if word.tag == "NOUN"]
    return [_class(nouns[0]), _class(nouns[-1])] if nouns else []


def complex_names(words: Sequence[Word]) -> list[str]:
    """The nouns before and after each relation, used only if they are two; else []."""
    found: list[str] = []
    for place in range(len(words)):
        length = _phrase(words, place)
        if length:
            found += _around(words, place, place + length)
    return [_class(name) for name in found] if len(found) == 2 else []


def _class(name: str) -> str:
    return "person" if name in PEOPLE else name


def _phrase(words: Sequence[Word], place: int) -> int:
    """How many words of a relation begin at a place, the longest first; 0 for none."""
    for length in (3, 2, 1):
        if " ".join(word.text for word in words[place : place + length]) in PHRASES:
            return min(length, len(words) - place)
    return 0


def _around(words: Sequence[Word], start: int, end: int) -> list[str]:
    """The nearest noun or name before `start`, and the first noun from `end` on; where the last word is
    reached without one, the last part of the first name that is not the last word."""
    before = [word.text for word in words[:start] if word.tag in ("NOUN", "PROPN")][-1:]
    after = [word.text for word in words[end:] if word.tag == "NOUN"][:1]
    if after or end >= len(words):
        return before + after
    names = (
        words[n].text
        for n in range(end, len(words) - 1)
        if words[n].tag == "PROPN" and words[n + 1].tag != "PROPN"
    )
    return before + [name for name in (next(names, None),) if name]


def numbered(words: Sequence[str], plurals: Mapping[str, str]) -> list[tuple[str, int]]:
    """Objects and how many of each: a number word or article before a known noun. plurals: singular to
    plural.

    Quirk: after "a" or "an" a plural is an object without a number, so later numbers move up; objects that
    are left without one are dropped."""
    singulars = {plural: singular for singular, plural in plurals.items()}
    names: list[str] = []
    numbers: list[int] = []
    for place, word in enumerate(words[:-1]):
        if word not in NUMBERS and word not in ARTICLES:
            continue
        single = word in ARTICLES or word == "one"
        pair = " ".join(words[place + 1 : place + 3])
        if place < len(words) - 2 and (pair in plurals or pair in singulars):
            several = pair in singulars and not single
            names.append(singulars[pair] if several else pair)
            numbers.append(NUMBERS[word] if several else 1)
            continue
        name = words[place + 1]
        if name in plurals and single:
            names.append(name)
            numbers.append(1)
        elif name in plurals or name in singulars:
            names.append(singulars.get(name, name))
            numbers += [NUMBERS[word]] if word in NUMBERS else []
    return list(zip(names, numbers, strict=False))


def questions(chunks: Sequence[str]) -> list[str]:
    """One for each noun chunk, in eight places; an empty one is not asked."""
    asked = [f"{chunk}?" for chunk in chunks if chunk not in NO_QUESTIONS][:QUESTIONS]
    return asked + [""] * (QUESTIONS - len(asked))
