"""Drawings of one to three objects asked for in other words, read back by the scene parser.

Right: exactly the objects asked for, each with every attribute that was named, in its place where one was
named (its cell, or at most 0.1 of the picture outside it), or to the side of the other that was named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from unified.eval.measurement import DATA_SEED
from unified.eval.suites.ood.asking import Case, Reply
from unified.eval.suites.ood.phrasings.drawings import ONE, RELATIONS, THREE, TWO
from unified.eval.suites.ood.reading import in_place
from unified.eval.suites.ood.wording import deck, filled, noun_phrase, place_words, with_article
from unified.tasks.sample import generator
from unified.tasks.scenes.choice import chance, pick, shuffled
from unified.tasks.scenes.generate import allowed
from unified.tasks.scenes.parser import MINIMUM_SIDE, parse
from unified.tasks.scenes.relations import CELL_NAMES, holds
from unified.tasks.scenes.scene import VALUES, Filter, Scene

CHANNELS = ("verb", "chat", "command", "verb", "long history")
PLAIN = "no relation"
TEMPLATES: dict[int, dict[str, tuple[str, ...]]] = {
    1: {PLAIN: ONE},
    2: {PLAIN: TWO, **RELATIONS},
    3: {PLAIN: THREE},
}
SLOTS = ("a", "b", "c")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a drawing must show: objects, the cell of each ("" for any), a relation of the first to the second
    ("" for none)."""

    objects: tuple[Filter, ...]
    cells: tuple[str, ...]
    relation: str = ""


def drawing_cases(split: str, count: int, objects: int) -> Iterator[Case]:
    """As many requests for drawings of this many objects."""
    kinds = TEMPLATES[objects]
    for number, (kind, template) in enumerate(deck(generator(DATA_SEED + objects, split, 0), kinds, count)):
        rng = generator(DATA_SEED + objects, split, number)
        wish = _wish(rng, split, objects, template, "" if kind == PLAIN else kind)
        slots = {
            slot: with_article(noun_phrase(rng, each))
            for slot, each in zip(SLOTS, wish.objects, strict=False)
        }
        places = ("at", "bt", "ct")
        slots |= {
            slot: place_words(rng, cell) for slot, cell in zip(places, wish.cells, strict=False) if cell
        }
        yield Case(
            kind=f"{objects} object{'s' * (objects > 1)}",
            words=filled(rng, template, slots),
            verb="draw",
            channel=CHANNELS[number % len(CHANNELS)],
            right=lambda reply, wish=wish: drawn_as_wished(reply, wish),  # type: ignore[misc]
        )


def drawn_as_wished(reply: Reply, wish: Wish) -> bool:
    """Whether the last picture shows what was asked for."""
    if not reply.pictures or min(reply.pictures[-1].shape[:2]) < MINIMUM_SIDE:
        return False
    return shows(parse(reply.pictures[-1]), wish)


def shows(scene: Scene, wish: Wish) -> bool:
    found = scene.objects
    if len(found) != len(wish.objects):
        return False
    for order in permutations(found):
        pairs = zip(wish.objects, wish.cells, order, strict=True)
        placed = all(each.matches(item) and (not name or in_place(item, name)) for each, name, item in pairs)
        if placed and (not wish.relation or holds(order[0], order[1], wish.relation)):
            return True
    return False


def _wish(rng: np.random.Generator, split: str, objects: int, template: str, relation: str) -> Wish:
    wanted: list[Filter] = []
    while len(wanted) < objects:
        values = {name: pick(rng, VALUES[name]) for name in ("colour", "shape")}
        if chance(rng, 0.3):
            values["size"] = pick(rng, VALUES["size"])
        if chance(rng, 0.15):
            values["fill"] = pick(rng, VALUES["fill"])
        if allowed(split, values["shape"], values["colour"]):
            wanted.append(Filter(**values))
    cells = shuffled(rng, CELL_NAMES)[:objects] if "{at}" in template else [""] * objects
    return Wish(objects=tuple(wanted), cells=tuple(cells), relation=relation)
