"""From templates to requests: names of objects, places, and the manners of people who type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from unified.eval.suites.ood.phrasings.drawings import PLACES, SYNONYMS
from unified.eval.suites.ood.phrasings.mazes import AFTER, BEFORE
from unified.tasks.scenes.choice import chance, pick
from unified.tasks.scenes.scene import Filter, Scene, SceneObject
from unified.tasks.scenes.words import PLURALS

NAMES = (("shape",), ("colour", "shape"), ("colour",), ("size", "shape"), ("fill", "shape"),
         ("size", "colour"), ("size", "colour", "shape"), ("fill", "colour", "shape"))  # fmt: skip
SYNONYM = 0.15  # how often a word is another one
MANNERS = 0.3  # how often words are put before or after a request
TYPO, SLOPPY = 0.12, 0.15  # how often a word is misspelt; how often there are no capitals and no full stop


def name_of(rng: np.random.Generator, scene: Scene, item: SceneObject, without: str = "") -> str | None:
    """What names this object alone, without an article and without the attribute `without`; None if nothing
    does."""
    for names in (NAMES[1], *NAMES) if chance(rng, 0.6) else NAMES:
        wanted = Filter.of(item, names)
        if without not in names and len(wanted.select(scene.objects)) == 1:
            return noun_phrase(rng, wanted)
    return None


def noun_phrase(rng: np.random.Generator, wanted: Filter, plural: bool = False) -> str:
    """ "big violet box"; with `plural` "big violet boxes"."""
    stated = wanted.stated()
    adjectives = [_word(rng, stated[name]) for name in ("size", "fill", "colour") if name in stated]
    noun = stated.get("shape", "shape")
    shown = PLURALS[noun] if plural else _word(rng, noun)
    return " ".join([*adjectives, shown])


def with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def place_words(rng: np.random.Generator, name: str) -> str:
    """A place with its preposition: "in the upper left corner"."""
    return pick(rng, PLACES[name])


def filled(rng: np.random.Generator, template: str, slots: Mapping[str, str]) -> str:
    """A template with its slots filled in, as somebody types it."""
    text = template.format(**slots)
    return typed(rng, text[0].upper() + text[1:] if template.startswith("{") else text)


def typed(rng: np.random.Generator, text: str) -> str:
    """Now and then with words before or after it, without capitals and full stop, or with a slip."""
    if chance(rng, MANNERS):
        if chance(rng, 0.5):
            before = pick(rng, BEFORE)
            text = before + (text if before.rstrip().endswith(".") else text[0].lower() + text[1:])
        else:
            text = text + pick(rng, AFTER)
    if chance(rng, SLOPPY):
        text = text.lower().rstrip(".!")
    return _misspelt(rng, text) if chance(rng, TYPO) else text


def deck(rng: np.random.Generator, kinds: Mapping[str, Sequence[str]], number: int) -> list[tuple[str, str]]:
    """As many (kind, template): every kind in turn, its templates in random order before one comes again."""
    orders = {
        kind: [templates[i] for i in rng.permutation(len(templates))] for kind, templates in kinds.items()
    }
    names = [list(kinds)[i] for i in rng.permutation(len(kinds))]
    return [
        (kind, orders[kind][(i // len(names)) % len(orders[kind])])
        for i in range(number)
        for kind in (names[i % len(names)],)
    ]


def _word(rng: np.random.Generator, value: str) -> str:
    usual = {"outline": "outlined"}.get(value, value)
    return pick(rng, SYNONYMS[value]) if value in SYNONYMS and chance(rng, SYNONYM) else usual


def _misspelt(rng: np.random.Generator, text: str) -> str:
    """Two letters inside one word of at least five are exchanged, or one is left out."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
    if not long:
        return text
    i = pick(rng, long)
    at = int(rng.integers(1, len(words[i]) - 2))
    word = words[i]
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    words[i] = swapped if chance(rng, 0.5) else word[:at] + word[at + 1 :]
    return " ".join(words)
