"""Edits in other words of pictures of both renderers, half and half, some of them of what "it" stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from unified.eval.measurement import DATA_SEED
from unified.eval.suites.ood.asking import Case, Reply
from unified.eval.suites.ood.phrasings.edits import EDITS, FOLLOW_UPS
from unified.eval.suites.ood.question_cases import RENDERERS
from unified.eval.suites.ood.reading import Change, carried_out, in_place
from unified.eval.suites.ood.scenes import Shown, show
from unified.eval.suites.ood.wording import deck, filled, name_of, noun_phrase, place_words, with_article
from unified.tasks.sample import generator
from unified.tasks.scenes.choice import chance, pick
from unified.tasks.scenes.generate import allowed, fits, place
from unified.tasks.scenes.parser import MINIMUM_SIDE
from unified.tasks.scenes.relations import CELL_NAMES, bounds
from unified.tasks.scenes.scene import SIZES, VALUES, Filter, SceneObject

CHANNELS = ("verb", "chat", "verb", "command", "long history")
GUARD = 0.05
SEED = DATA_SEED + 10
Wanted = tuple[Change, dict[str, str]]


def edit_cases(split: str, count: int) -> Iterator[Case]:
    """As many edits, all kinds in turn."""
    for number, (kind, template) in enumerate(deck(generator(SEED, split, 0), EDITS, count)):
        rng = generator(SEED, split, number)
        second = (number + number // len(EDITS)) % 2 == 1  # each kind by both renderers
        shown, change, slots = _wanted(rng, split, kind, number, second)
        channel = CHANNELS[number % len(CHANNELS)]
        earlier: tuple[str, ...] = ()
        if channel == "chat" and kind in FOLLOW_UPS and chance(rng, 0.6):
            first, template = pick(rng, FOLLOW_UPS[kind])
            earlier = (first.format(**slots),)
        yield Case(
            kind=f"{RENDERERS[second]}, {kind}",
            words=filled(rng, template, slots),
            verb="edit",
            channel=channel,
            right=lambda reply, shown=shown, change=change: _right(reply, shown, change),  # type: ignore[misc]
            picture=shown.picture,
            earlier=earlier,
        )


def _right(reply: Reply, shown: Shown, change: Change) -> bool:
    if not reply.pictures or (shown.style is None and min(reply.pictures[-1].shape[:2]) < MINIMUM_SIDE):
        return False
    return carried_out(change, shown.read(reply.pictures[-1]))


def _wanted(
    rng: np.random.Generator, split: str, kind: str, number: int, second: bool
) -> tuple[Shown, Change, dict[str, str]]:
    """A picture in which an edit of this kind can be asked for, the edit, and the slots of its template."""
    while True:
        shown = show(rng, split, number // 2, second, most=3)
        found = CHANGES[kind](rng, shown, split)
        if found is not None and fits(found[0].after) and _distinct(found[0], shown):
            return shown, *found


def _distinct(change: Change, shown: Shown) -> bool:
    return change.new is None or shown.holds(change.new.colour)


def _named(rng: np.random.Generator, shown: Shown) -> tuple[SceneObject, dict[str, str]] | None:
    item = pick(rng, shown.scene.objects)
    name = name_of(rng, shown.scene, item)
    return (item, {"thing": name}) if name else None


def _recolour(rng: np.random.Generator, shown: Shown, split: str) -> Wanted | None:
    named, colour = _named(rng, shown), pick(rng, VALUES["colour"])
    if named is None or colour == named[0].colour or not allowed(split, named[0].shape, colour):
        return None
    old, slots = named
    change = Change(kind="recolour", before=shown.scene, old=old, new=replace(old, colour=colour))
    return change, {**slots, "value": colour}


def _resize(rng: np.random.Generator, shown: Shown, _: str) -> Wanted | None:
    named, size = _named(rng, shown), pick(rng, tuple(SIZES))
    if named is None or size == named[0].size:
        return None
    old, slots = named
    return Change(kind="resize", before=shown.scene, old=old, new=replace(old, size=size)), {
        **slots,
        "value": size,
    }


def _remove(rng: np.random.Generator, shown: Shown, _: str) -> Wanted | None:
    named = _named(rng, shown)
    if named is None or len(shown.scene.objects) < 2:
        return None
    return Change(kind="remove", before=shown.scene, old=named[0]), named[1]


def _add(rng: np.random.Generator, shown: Shown, split: str) -> Wanted | None:
    wanted = Filter(**{name: pick(rng, values) for name, values in VALUES.items()})
    target = pick(rng, CELL_NAMES)
    new = place(rng, wanted, shown.scene.objects, _inner(target))
    if new is None or not allowed(split, wanted.shape, wanted.colour):
        return None
    said = noun_phrase(rng, Filter(shape=wanted.shape, colour=wanted.colour, size=wanted.size))
    slots = {"a": with_article(said), "place": place_words(rng, target)}
    return Change(kind="add", before=shown.scene, new=new), slots


def _move(rng: np.random.Generator, shown: Shown, _: str) -> Wanted | None:
    named, target = _named(rng, shown), pick(rng, CELL_NAMES)
    if named is None or in_place(named[0], target):
        return None
    old, slots = named
    others = tuple(item for item in shown.scene.objects if item is not old)
    new = place(rng, Filter.of(old), others, _inner(target))
    if new is None:
        return None
    change = Change(kind="move", before=shown.scene, old=old, new=new)
    return change, {**slots, "place": place_words(rng, target), "goal": target}


def _replace(rng: np.random.Generator, shown: Shown, split: str) -> Wanted | None:
    named = _named(rng, shown)
    colour, shape = pick(rng, VALUES["colour"]), pick(rng, VALUES["shape"])
    if named is None or shape == named[0].shape or not allowed(split, shape, colour):
        return None
    old, slots = named
    new = replace(old, shape=shape, colour=colour)
    said = noun_phrase(rng, Filter(shape=shape, colour=colour))
    return Change(kind="replace", before=shown.scene, old=old, new=new), {**slots, "a": with_article(said)}


def _inner(name: str) -> tuple[float, float, float, float]:
    left, right, top, bottom = bounds(name)
    return left + GUARD, right - GUARD, top + GUARD, bottom - GUARD


CHANGES: dict[str, Callable[[np.random.Generator, Shown, str], Wanted | None]] = {
    "recolour": _recolour,
    "remove": _remove,
    "add": _add,
    "move": _move,
    "resize": _resize,
    "replace": _replace,
}
