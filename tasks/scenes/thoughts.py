"""What an answer is made from, said before it: those entries of the list (`steps.seen`) that matter.

To find entries, to count or compare them and to say the result are three small steps instead of one large
one (a chain of thought, arXiv 2201.11903). What is looked for is said before what is found, and objects are
said word for word as in the list: what comes next is then always near at hand.
"""

from __future__ import annotations

from unified.tasks.scenes.questions import EXTREMES, Query
from unified.tasks.scenes.relations import holds, lead
from unified.tasks.scenes.scene import ATTRIBUTES, Filter, Scene, SceneObject
from unified.tasks.scenes.steps import in_order, placed
from unified.tasks.scenes.words import SYNONYMS

THINKING = "Think first."  # the request that follows a question
NONE = "none"
SO = "So "


def thought(query: Query, scene: Scene, answer: str) -> str:
    """ "red object: 1 a small solid red star in the centre; 2 a large outlined red moon in the top left. So
    2": the objects that count, numbered, two groups of them where two are compared."""
    groups = [f"{name}: {_numbered(found)}." for name, found in _considered(query, scene)]
    return " ".join([*groups, f"{SO}{answer}"])


def conclusion(text: str) -> str:
    """The answer alone."""
    return text.rsplit(SO, 1)[-1]


def _considered(query: Query, scene: Scene) -> list[tuple[str, list[SceneObject]]]:
    """What is looked for, in words, and the objects that it might be."""
    objects, kind = scene.objects, query.kind
    if kind == "background":
        return []
    if kind == "extreme":
        found = max(objects, key=lambda item: lead(item, objects[0], EXTREMES[query.detail]))
        return [(f"{query.detail} object", [found])]
    if kind == "neighbour":
        (other,) = query.other.select(objects)
        around = [item for item in objects if item is not other and holds(item, other, query.detail)]
        return [(_name(query.other), [other]), (f"{query.detail} of it", around)]
    if kind == "existence":
        wanted = [_loose(query.subject)]
    else:
        wanted = [query.subject, *([query.other] if query.other.stated() else [])]
    return [(_name(filter), filter.select(objects)) for filter in wanted]


def _loose(wanted: Filter) -> Filter:
    """One attribute of those that are stated: what shares it may or may not be what is asked for."""
    kept = next(name for name in ATTRIBUTES if name in wanted.stated())
    return Filter(**{kept: wanted.stated()[kept]})


def _name(wanted: Filter) -> str:
    """The words of `seen` for what a filter states, in their order there."""
    words = [SYNONYMS[value][0] for value in (wanted.size, wanted.fill) if value]
    return " ".join([*words, *([wanted.colour] if wanted.colour else []), wanted.shape or "object"])


def _numbered(items: list[SceneObject]) -> str:
    return "; ".join(f"{number} {placed(item)}" for number, item in enumerate(in_order(items), 1)) or NONE
