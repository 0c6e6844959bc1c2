"""Draws questions about a scene: first the answer is wished for, then a query that has it.

Wishing first keeps yes and no even and spreads the counts. "No" to existence is a hard negative: a
combination that is absent although its parts are there, or an object that differs from a present one in a
single attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from unified.tasks.scenes.choice import chance, pick, shuffled
from unified.tasks.scenes.generate import MAXIMUM_OBJECTS, Wish, allowed
from unified.tasks.scenes.questions import ANSWERS, DETAILS, EXTREMES, Query, answer
from unified.tasks.scenes.relations import OPPOSITE, RELATION_PHRASES, clear, clear_cell, lead
from unified.tasks.scenes.scene import ATTRIBUTES, VALUES, Filter, Scene, SceneObject
from unified.tasks.scenes.words import a, bare, the

YES_NO = ("existence", "relation", "more", "larger", "same")
PAIRED = ("relation", "side", "extreme", "neighbour", "more", "larger", "same")
KINDS = tuple(ANSWERS)
NAMING = (
    ("shape",),
    ("colour",),
    ("colour", "shape"),
    ("size", "shape"),
    ("fill", "shape"),
    ("size", "colour"),
)
FULL = (("size", "colour", "shape"), ("fill", "colour", "shape"), ATTRIBUTES)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A query with its wording and its answer in the scene it was made for."""

    query: Query
    text: str
    answer: str


def wished_answer(rng: np.random.Generator, kind: str) -> str | None:
    """The answer to aim at, where answers of this kind should be spread evenly."""
    if kind in YES_NO:
        return pick(rng, ("yes", "no"))
    if kind == "count":
        return str(int(rng.integers(MAXIMUM_OBJECTS)))
    return pick(rng, VALUES[kind]) if kind in ("size", "fill") else None


def suitable(kind: str, least: int, most: int) -> Wish | None:
    """The scenes this kind of question needs: at least two objects where two are compared. None if there are
    none."""
    low = max(least, 2) if kind in PAIRED else least
    return Wish(least=low, most=most) if low <= most else None


def ask(
    rng: np.random.Generator, scene: Scene, split: str, kind: str, wished: str | None = None
) -> Question | None:
    """A question of this kind with the wished answer, or None if the scene has none. Never mentions a pair
    the split may not show. Raises ValueError for an unknown kind."""
    if kind not in ANSWERS:
        raise ValueError(f"unknown kind of question {kind!r}: choose one of {', '.join(KINDS)}")
    for _ in range(12):
        query = PROPOSALS[kind](rng, scene, wished)
        if query is None or not _mentions_allowed(query, split):
            continue
        found = answer(query, scene)
        if wished is None or found == wished:
            return Question(query=query, text=_wording(rng, query), answer=found)
    return None


def refer(rng: np.random.Generator, scene: Scene, item: SceneObject, without: str = "") -> Filter | None:
    """A short filter that names this object alone, not using one attribute; None if there is none."""
    forms = [names for names in (*shuffled(rng, NAMING), *FULL) if without not in names]
    for names in forms:
        wanted = Filter.of(item, names)
        if len(wanted.select(scene.objects)) == 1:
            return wanted
    return None


def _mentions_allowed(query: Query, split: str) -> bool:
    return all(allowed(split, wanted.shape, wanted.colour) for wanted in (query.subject, query.other))


def _random_form(rng: np.random.Generator) -> tuple[str, ...]:
    return pick(
        rng, (("shape",), ("colour",), ("colour", "shape"), ("colour", "shape"), ("size", "shape"), FULL[0])
    )


def _existence(rng: np.random.Generator, scene: Scene, wished: str | None) -> Query | None:
    present = Filter.of(pick(rng, scene.objects), _random_form(rng))
    return Query(kind="existence", subject=present if wished == "yes" else _twisted(rng, scene, present))


def _twisted(rng: np.random.Generator, scene: Scene, wanted: Filter) -> Filter:
    """The filter with one attribute changed, if possible to that of another object in the scene."""
    changed = pick(rng, tuple(wanted.stated()))
    nearby = [getattr(item, changed) for item in scene.objects]
    values = nearby if len(wanted.stated()) > 1 and chance(rng, 0.5) else VALUES[changed]
    return replace(wanted, **{changed: pick(rng, values)})


def _count(rng: np.random.Generator, scene: Scene, wished: str | None) -> Query | None:
    forms = ((), ("shape",), ("colour",), ("size",), ("fill",), ("colour", "shape"), ("size", "colour"))
    wanted = Filter.of(pick(rng, scene.objects), pick(rng, forms))
    if wished == "0" and wanted.stated():
        wanted = _twisted(rng, scene, wanted)
    return Query(kind="count", subject=wanted)


def _attribute(name: str) -> Callable[[np.random.Generator, Scene, str | None], Query | None]:
    def propose(rng: np.random.Generator, scene: Scene, wished: str | None) -> Query | None:
        subject = refer(rng, scene, pick(rng, scene.objects), without=name)
        return Query(kind=name, subject=subject) if subject else None

    return propose


def _where(rng: np.random.Generator, scene: Scene, wished: str | None) -> Query | None:
    item = pick(rng, scene.objects)
    subject = refer(rng, scene, item) if clear_cell(item) else None
    return Query(kind="where", subject=subject) if subject else None


def _pair(
    rng: np.random.Generator, scene: Scene, without: str = ""
) -> tuple[tuple[SceneObject, Filter], tuple[SceneObject, Filter]] | None:
    """Two different objects with filters that name them."""
    if len(scene.objects) < 2:
        return None
    first, second = shuffled(rng, scene.objects)[:2]
    names = refer(rng, scene, first, without), refer(rng, scene, second, without)
    return ((first, names[0]), (second, names[1])) if names[0] and names[1] else None


def _relation(rng: np.random.Generator, scene: Scene, wished: str | None) -> Query | None:
    pair, relation = _pair(rng, scene), pick(rng, DETAILS["relation"])
    if pair is None or not clear(pair[0][0], pair[1][0], relation):
        return None
    if (lead(pair[0][0], pair[1][0], relation) > 0) != (wished == "yes"):
        relation = OPPOSITE[relation]
    return Query(kind="relation", subject=pair[0][1], other=pair[1][1], detail=relation)


def _side(rng: np.random.Generator, scene: Scene, wished: str | None) -> Query | None:
    pair, detail = _pair(rng, scene), pick(rng, DETAILS["side"])
    if pair is None or not clear(pair[0][0], pair[1][0], detail.split()[0]):
        return None
    return Query(kind="side", subject=pair[0][1], other=pair[1][1], detail=detail)


def _object(rng: np.random.Generator, scene: Scene, wished: str | None) -> Query | None:
    """Named by size, fill or both, so that neither colour nor shape is given away."""
    forms = (("size",), ("fill",), ("size", "fill"))
    wanted = Filter.of(pick(rng, scene.objects), pick(rng, forms))
    return Query(kind="object", subject=wanted) if len(wanted.select(scene.objects)) == 1 else None


def _extreme(rng: np.random.Generator, scene: Scene, wished: str | None) -> Query | None:
    detail = pick(rng, tuple(EXTREMES))
    ranked = sorted(scene.objects, key=lambda item: lead(item, scene.objects[0], EXTREMES[detail]))
    unclear = len(ranked) < 2 or not clear(ranked[-1], ranked[-2], EXTREMES[detail])
    return None if unclear else Query(kind="extreme", detail=detail)


def _neighbour(rng: np.random.Generator, scene: Scene, wished: str | None) -> Query | None:
    item, detail = pick(rng, scene.objects), pick(rng, DETAILS["neighbour"])
    others = [other for other in scene.objects if other is not item]
    if not all(clear(other, item, detail) for other in others):
        return None
    wanted = refer(rng, scene, item) if sum(lead(other, item, detail) > 0 for other in others) == 1 else None
    return Query(kind="neighbour", other=wanted, detail=detail) if wanted else None


def _more(rng: np.random.Generator, scene: Scene, wished: str | None) -> Query | None:
    attribute = pick(rng, ATTRIBUTES)
    present = getattr(pick(rng, scene.objects), attribute)
    values = shuffled(rng, [present, pick(rng, VALUES[attribute])])
    if values[0] == values[1]:
        return None
    subject, other = (Filter(**{attribute: value}) for value in values)
    return Query(kind="more", subject=subject, other=other, detail=pick(rng, DETAILS["more"]))


def _larger(rng: np.random.Generator, scene: Scene, wished: str | None) -> Query | None:
    pair = _pair(rng, scene, without="size")
    if pair is None or pair[0][0].size == pair[1][0].size:
        return None
    return Query(kind="larger", subject=pair[0][1], other=pair[1][1], detail=pick(rng, DETAILS["larger"]))


def _same(rng: np.random.Generator, scene: Scene, wished: str | None) -> Query | None:
    detail = pick(rng, DETAILS["same"])
    pair = _pair(rng, scene, without=detail)
    return Query(kind="same", subject=pair[0][1], other=pair[1][1], detail=detail) if pair else None


def _background(rng: np.random.Generator, scene: Scene, wished: str | None) -> Query | None:
    return Query(kind="background")


PROPOSALS: dict[str, Callable[[np.random.Generator, Scene, str | None], Query | None]] = {
    "existence": _existence,
    "count": _count,
    **{name: _attribute(name) for name in ATTRIBUTES},
    "where": _where,
    "relation": _relation,
    "side": _side,
    "object": _object,
    "extreme": _extreme,
    "neighbour": _neighbour,
    "more": _more,
    "larger": _larger,
    "same": _same,
    "background": _background,
}


WORDINGS: dict[str, tuple[str, ...]] = {
    "existence": (
        "Is there {a}?",
        "Do you see {a}?",
        "Is there {a} in the picture?",
        "Does the image contain {a}?",
    ),
    "count": ("How many {many} are there?", "How many {many} do you see?", "Count the {many}."),
    "shape": ("What shape is {the}?", "What is the shape of {the}?", "Which shape does {the} have?"),
    "colour": ("What colour is {the}?", "What is the colour of {the}?", "Which colour does {the} have?"),
    "size": ("What size is {the}?", "Is {the} small, medium or large?", "How big is {the}?"),
    "fill": ("Is {the} solid or outline?", "What is the fill of {the}, solid or outline?"),
    "where": ("Where is {the}?", "In which part of the picture is {the}?"),
    "relation": ("Is {the} {relation} {other}?", "Is it true that {the} is {relation} {other}?"),
    "side": ("Is {the} {detail} of {other}?", "On which side of {other} is {the}, {detail}?"),
    "object": ("What is {the}?", "Which colour and shape is {the}?"),
    "extreme": ("What is the {detail} object?", "Which object is {detail}?"),
    "neighbour": ("What is {relation} {other}?", "Which object is {relation} {other}?"),
    "more": ("Are there {detail} {many} than {others}?", "Do you see {detail} {many} than {others}?"),
    "larger": ("Is {the} {detail} than {other}?",),
    "same": (
        "Is {the} the same {detail} as {other}?",
        "Do {the} and {other} have the same {detail}?",
    ),
    "background": ("What colour is the background?", "What is the colour of the ground?"),
}


def _wording(rng: np.random.Generator, query: Query) -> str:
    parts = {
        "a": a(rng, query.subject),
        "the": the(rng, query.subject),
        "many": bare(rng, query.subject, number=2),
        "other": the(rng, query.other),
        "others": bare(rng, query.other, number=2),
        "detail": query.detail,
        "relation": pick(rng, RELATION_PHRASES.get(query.detail, ("",))),
    }
    template = pick(rng, WORDINGS[query.kind])
    if query.detail == "above or below":
        template = template.replace("{detail} of", "{detail}")
    return template.format(**parts)


def questions_about(rng: np.random.Generator, scene: Scene, split: str) -> list[Question]:
    """One question of every kind that the scene allows."""
    asked = [ask(rng, scene, split, kind, wished_answer(rng, kind)) for kind in KINDS]
    return [question for question in asked if question is not None]
