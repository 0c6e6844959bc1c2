"""What an answer is made from, said before it: those entries of the list (`steps.seen`) that matter.

To find entries, to count or compare them and to say the result are three small steps instead of one large
one (a chain of thought, arXiv 2201.11903). Objects are said word for word as in the list.
"""

from __future__ import annotations

from dataclasses import replace

from unified.tasks.scenes.questions import EXTREMES, Query
from unified.tasks.scenes.relations import holds, lead
from unified.tasks.scenes.scene import ATTRIBUTES, Filter, Scene, SceneObject
from unified.tasks.scenes.steps import in_order, placed

THINKING = "Think first."  # the request that follows a question
NONE = "none"
SO = "So "


def thought(query: Query, scene: Scene, answer: str) -> str:
    """ "1 a small solid red star in the centre; 2 a large outlined red moon in the top left. So 2": the
    objects that count, numbered, two groups of them where two are compared."""
    groups = [_numbered(group) for group in _considered(query, scene)]
    return " ".join([*(f"{group}." for group in groups), f"{SO}{answer}"])


def conclusion(text: str) -> str:
    """The answer alone."""
    return text.rsplit(SO, 1)[-1]


def _considered(query: Query, scene: Scene) -> list[list[SceneObject]]:
    objects, kind = scene.objects, query.kind
    if kind == "background":
        return []
    if kind == "existence":
        return [_loose(query.subject).select(objects)]
    if kind == "extreme":
        return [[max(objects, key=lambda item: lead(item, objects[0], EXTREMES[query.detail]))]]
    if kind == "neighbour":
        (other,) = query.other.select(objects)
        return [[other], [item for item in objects if item is not other and holds(item, other, query.detail)]]
    wanted = [query.subject, *([query.other] if query.other.stated() else [])]
    return [filter.select(objects) for filter in wanted]


def _loose(wanted: Filter) -> Filter:
    """One attribute of those that are stated: what shares it may or may not be what is asked for."""
    kept = next(name for name in ATTRIBUTES if name in wanted.stated())
    return replace(Filter(), **{kept: wanted.stated()[kept]})


def _numbered(items: list[SceneObject]) -> str:
    return "; ".join(f"{number} {placed(item)}" for number, item in enumerate(in_order(items), 1)) or NONE
