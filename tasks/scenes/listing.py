"""What stands in each part of a picture, in words, and that list read entry by entry for what is looked for.

To find an entry that fits two or three words takes a search that a small model often gets wrong. To say the
next entry, what is wanted, and whether the words of the one are among those of the other are easy steps, each
with all it needs near at hand (a chain of thought, arXiv 2201.11903).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from unified.tasks.scenes.relations import CELL_NAMES, cell
from unified.tasks.scenes.scene import Filter, Scene, SceneObject
from unified.tasks.scenes.words import SYNONYMS

NOTHING = "nothing"
NO = "no"
PARTS = rf"\b({'|'.join(sorted(CELL_NAMES, key=len, reverse=True))}) (.*?)[;.]"


def seen(scene: Scene) -> str:
    """What stands in each of the nine parts, in reading order: "Seen: top left nothing; top centre a small
    solid red star; ...": a glance at each place is learned sooner than where to look next."""
    return f"Seen: {'; '.join(f'{name} {_inside(scene, name)}' for name in CELL_NAMES)}."


def scan(scene: Scene, wanted: Sequence[Filter], whole: bool = False) -> str:
    """ "red star? centre a small solid pink star: red star no; bottom left a large solid red star: red star
    1.": the objects in the order of `seen`, those that are wanted numbered. It ends where one of each is
    found, unless the `whole` list is read."""
    counts, said = [0] * len(wanted), []
    for item in in_order(scene.objects):
        verdicts = []
        for number, one in enumerate(wanted):
            fits = one.matches(item)
            counts[number] += fits
            verdicts.append(f"{named(one)} {counts[number] if fits else NO}")
        said.append(f"{entry(item)}: {', '.join(verdicts)}")
        if all(counts) and not whole:
            break
    return f"{', '.join(map(named, wanted))}? {'; '.join(said)}."


def score_seen(scene: Scene, text: str) -> dict[str, float]:
    """parts: share of the nine parts of a picture of which `text` says what `seen` says; all: every one."""
    right, said = (re.findall(PARTS, found) for found in (seen(scene), text))
    same = sum(part in said for part in right) / len(right)
    return {"parts": same, "all": float(right == said)}


def in_order(items: Sequence[SceneObject]) -> list[SceneObject]:
    """As `seen` names them: part by part, in one part from top to bottom."""
    return sorted(items, key=lambda item: (CELL_NAMES.index(cell(item)), item.y, item.x))


def described(item: SceneObject) -> str:
    return f"a {SYNONYMS[item.size][0]} {SYNONYMS[item.fill][0]} {item.colour} {item.shape}"


def entry(item: SceneObject) -> str:
    """The object and its part as they stand in `seen`."""
    return f"{cell(item)} {described(item)}"


def placed(item: SceneObject) -> str:
    """The object as `seen` names it, and its part."""
    return f"{described(item)} in the {cell(item)}"


def named(wanted: Filter) -> str:
    """The words of `seen` for what a filter states, in their order there."""
    words = [SYNONYMS[value][0] for value in (wanted.size, wanted.fill) if value]
    return " ".join([*words, *([wanted.colour] if wanted.colour else []), wanted.shape or "object"])


def _inside(scene: Scene, name: str) -> str:
    items = in_order([item for item in scene.objects if cell(item) == name])
    return " and ".join(map(described, items)) or NOTHING
