"""What an answer is made from, said before it: the list (`listing.seen`) read for what matters."""

from __future__ import annotations

from unified.tasks.scenes.listing import NO, entry, in_order, named, scan
from unified.tasks.scenes.questions import EXTREMES, Query, only
from unified.tasks.scenes.relations import RELATION_PHRASES, cell, holds, lead
from unified.tasks.scenes.scene import Filter, Scene

THINKING = "Think first."  # the request that follows a question
SO = "So "
WHOLE = ("count", "more")  # kinds whose answer hangs on every object


def thought(query: Query, scene: Scene, answer: str) -> str:
    """ "red object? centre a small solid red star: red object 1; bottom left a large solid pink moon: red
    object no. So 1"; before the answer to a comparison, what is compared; of an extreme only the object."""
    return " ".join([*_read(query, scene), f"{SO}{answer}"])


def conclusion(text: str) -> str:
    """The answer alone."""
    return text.rsplit(SO, 1)[-1]


def _read(query: Query, scene: Scene) -> list[str]:
    kind = query.kind
    if kind == "background":
        return []
    if kind == "extreme":
        first = scene.objects[0]
        found = max(scene.objects, key=lambda item: lead(item, first, EXTREMES[query.detail]))
        return [f"{query.detail} object? {entry(found)}."]
    if kind == "neighbour":
        return [scan(scene, [query.other]), _beside(query, scene)]
    if not query.other.stated():
        return [scan(scene, [query.subject], whole=kind in WHOLE)]
    pair = [query.subject, query.other]
    values = [_compared(query, one, scene) for one in pair]
    facts = [f"{named(one)} {value}" for one, value in zip(pair, values, strict=True)]
    beside = [f"{' and '.join(values)}."] if kind == "same" else []  # equal words are seen when they are near
    return [scan(scene, pair, whole=kind in WHOLE), f"{', '.join(facts)}.", *beside]


def _compared(query: Query, wanted: Filter, scene: Scene) -> str:
    """What of it the answer compares."""
    if query.kind == "more":
        return str(len(wanted.select(scene.objects)))
    if query.kind in ("relation", "side"):
        return cell(only(wanted, scene))
    attribute = query.detail if query.kind == "same" else "size"
    return str(getattr(only(wanted, scene), attribute))


def _beside(query: Query, scene: Scene) -> str:
    """The one object on that side of another."""
    other, said = only(query.other, scene), []
    where = f"{RELATION_PHRASES[query.detail][-1]} {cell(other)}"
    for item in in_order(scene.objects):
        if item is not other:
            found = holds(item, other, query.detail)
            said.append(f"{entry(item)}: {where} {1 if found else NO}")
            if found:
                break
    return f"{where}? {'; '.join(said)}."
