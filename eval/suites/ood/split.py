"""What keeps the suite out of training: hashes of its phrasings and of its renderers' settings.

A phrasing is compared in its normal form: lower case, without punctuation and courtesies, every word for a
colour, shape, size, fill, place or number replaced by one sign. So "Count the red stars for me." and "count
the small circles, please, for me" are one phrasing. `tests/eval/ood/test_split.py` checks training data.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from unified.eval.suites.ood.phrasings import drawings, edits, mazes, questions, talk
from unified.eval.suites.ood.settings import setting_values
from unified.tasks.scenes.scene import BACKGROUNDS, COLOURS, FILLS, SHAPES, SIZES
from unified.tasks.scenes.words import MEANINGS, NOUNS, NUMBERS, PLURALS

SIGN = "x"
PLACES = ("top", "bottom", "left", "right", "middle", "centre", "center", "upper", "lower", "above", "below")
COURTESIES = frozenset(["please", "thanks", "thank", "you", "hello", "hi", "hey", "ok", "okay"])
CONTENT = frozenset(
    {*BACKGROUNDS, *COLOURS, *FILLS, *SHAPES, *SIZES, *MEANINGS, *NOUNS, *NUMBERS, *PLURALS.values(), *PLACES}
    | {word for words in drawings.SYNONYMS.values() for phrase in words for word in phrase.split()}
    | {"gray", "corner", "edge", SIGN}
)
SLOT = re.compile(r"\{\w+\}")


def normal_form(text: str) -> str:
    """The normal form of a request or of a template (a slot counts as words of content)."""
    plain = re.sub(r"[^a-z0-9 ]+", " ", SLOT.sub(f" {SIGN} ", text.lower()).replace("'", ""))
    signs = [SIGN if word in CONTENT or word.isdigit() else word for word in plain.split()]
    kept = [word for word in signs if word not in COURTESIES] or signs
    joined = [word for i, word in enumerate(kept) if word != SIGN or i == 0 or kept[i - 1] != SIGN]
    return " ".join(joined)


def phrasings() -> Iterator[str]:
    """Every template of a request of the suite."""
    for kinds in (questions.QUESTIONS, drawings.RELATIONS, edits.EDITS, talk.SMALL_TALK, talk.ABOUT_PICTURES):
        for templates in kinds.values():
            yield from templates
    for templates in (drawings.ONE, drawings.TWO, drawings.THREE, mazes.MAZES):
        yield from templates
    yield from talk.OUT_OF_SCOPE
    yield from talk.UNDRAWABLE
    for pairs in edits.FOLLOW_UPS.values():
        for _, last in pairs:
            yield last


def digest(text: str) -> str:
    """Sixteen hexadecimal digits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def phrasing_hashes() -> dict[str, str]:
    """Hash of the normal form of every phrasing, with the phrasing."""
    return {digest(normal_form(text)): text for text in phrasings()}


def setting_hashes() -> dict[str, str]:
    """Hash of every value of every setting of the renderers, with the setting: "rotation=7"."""
    named = (
        f"{name}={value}" for name, values in setting_values().items() for value in sorted(values, key=str)
    )
    return {digest(text): text for text in named}
