"""What an answer is made from, said before it: the list (`listing.seen`) read for what matters."""

from __future__ import annotations

from unified.tasks.scenes.listing import NO, in_order, named, placed, scan
from unified.tasks.scenes.questions import EXTREMES, Query, only
from unified.tasks.scenes.relations import holds, lead
from unified.tasks.scenes.scene import Scene

THINKING = "Think first."  # the request that follows a question
SO = "So "
WHOLE = ("count", "more")  # kinds whose answer hangs on every object


def thought(query: Query, scene: Scene, answer: str) -> str:
    """ "red object? a small solid red star in the centre: 1; a large solid pink moon in the top left: no. So
    1"; of an extreme only the object itself."""
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
        return [f"{query.detail} object? {placed(found)}: 1."]
    if kind == "neighbour":
        return [scan(scene, [query.other]), _beside(query, scene)]
    wanted = [query.subject, *([query.other] if query.other.stated() else [])]
    return [scan(scene, wanted, whole=kind in WHOLE)]


def _beside(query: Query, scene: Scene) -> str:
    """The one object on that side of another."""
    other, said = only(query.other, scene), []
    for item in in_order(scene.objects):
        if item is not other:
            found = holds(item, other, query.detail)
            said.append(f"{placed(item)}: {1 if found else NO}")
            if found:
                break
    return f"{query.detail} of {named(query.other)}? {'; '.join(said)}."
