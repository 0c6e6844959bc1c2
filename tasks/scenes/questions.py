"""Questions as data, and the one function that answers them from a description.

`answer` serves both for the truth (the generator's description) and for re-deriving it (the parser's reading
of the pixels). A query that a description cannot answer, such as "the red circle" where there are two, raises
ValueError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from unified.tasks.scenes.relations import RELATIONS, cell, holds, lead
from unified.tasks.scenes.scene import ATTRIBUTES, SIZES, Filter, Scene, SceneObject

EXTREMES = {"leftmost": "left", "rightmost": "right", "highest": "above", "lowest": "below"}


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked. `kind` is a key of `ANSWERS`; `detail` is the relation, attribute or direction it
    needs."""

    kind: str
    subject: Filter = field(default_factory=Filter)
    other: Filter = field(default_factory=Filter)
    detail: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ANSWERS:
            raise ValueError(f"unknown kind of question {self.kind!r}: choose one of {', '.join(ANSWERS)}")
        options = DETAILS.get(self.kind, ("",))
        if self.detail not in options:
            raise ValueError(f"a {self.kind} question needs one of {', '.join(options)}, got {self.detail!r}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Query:
        """The inverse of `to_json`. Raises ValueError for anything else."""
        try:
            filters = {name: Filter.from_json(data[name]) for name in ("subject", "other")}
            return Query(**{**data, **filters})
        except (TypeError, KeyError) as error:
            raise ValueError(f"not the data of a query: {error}") from None


def answer(query: Query, scene: Scene) -> str:
    """The answer in a word or two. Raises ValueError where the scene leaves it open."""
    return ANSWERS[query.kind](query, scene)


def only(wanted: Filter, scene: Scene) -> SceneObject:
    """The one object that the filter names."""
    found = wanted.select(scene.objects)
    if len(found) != 1:
        raise ValueError(f"{len(found)} objects match {wanted.stated()}, not one")
    return found[0]


def name(item: SceneObject) -> str:
    """What "what is ..." is answered with: colour and shape."""
    return f"{item.colour} {item.shape}"


def yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _existence(query: Query, scene: Scene) -> str:
    return yes(bool(query.subject.select(scene.objects)))


def _count(query: Query, scene: Scene) -> str:
    return str(len(query.subject.select(scene.objects)))


def _attribute(query: Query, scene: Scene) -> str:
    return str(getattr(only(query.subject, scene), query.kind))


def _where(query: Query, scene: Scene) -> str:
    return cell(only(query.subject, scene))


def _relation(query: Query, scene: Scene) -> str:
    return yes(holds(only(query.subject, scene), only(query.other, scene), query.detail))


def _side(query: Query, scene: Scene) -> str:
    first, second = query.detail.split(" or ")
    return first if holds(only(query.subject, scene), only(query.other, scene), first) else second


def _object(query: Query, scene: Scene) -> str:
    return name(only(query.subject, scene))


def _extreme(query: Query, scene: Scene) -> str:
    if not scene.objects:
        raise ValueError("there is no object")
    origin = scene.objects[0]
    return name(max(scene.objects, key=lambda item: lead(item, origin, EXTREMES[query.detail])))


def _neighbour(query: Query, scene: Scene) -> str:
    other = only(query.other, scene)
    found = [item for item in scene.objects if item is not other and holds(item, other, query.detail)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} objects are {query.detail} of it, not one")
    return name(found[0])


def _more(query: Query, scene: Scene) -> str:
    subject, other = (len(wanted.select(scene.objects)) for wanted in (query.subject, query.other))
    return yes(subject > other if query.detail == "more" else subject < other)


def _larger(query: Query, scene: Scene) -> str:
    subject, other = (SIZES[only(wanted, scene).size] for wanted in (query.subject, query.other))
    return yes(subject > other if query.detail == "larger" else subject < other)


def _same(query: Query, scene: Scene) -> str:
    subject, other = (getattr(only(wanted, scene), query.detail) for wanted in (query.subject, query.other))
    return yes(subject == other)


def _background(query: Query, scene: Scene) -> str:
    return scene.background


ANSWERS: dict[str, Callable[[Query, Scene], str]] = {
    "existence": _existence,
    "count": _count,
    **dict.fromkeys(ATTRIBUTES, _attribute),
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

DETAILS: dict[str, tuple[str, ...]] = {
    "relation": RELATIONS,
    "side": ("left or right", "above or below"),
    "extreme": tuple(EXTREMES),
    "neighbour": RELATIONS,
    "more": ("more", "fewer"),
    "larger": ("larger", "smaller"),
    "same": ("shape", "colour", "size"),
}
