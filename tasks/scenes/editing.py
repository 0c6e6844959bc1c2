"""Edits of a picture: data, wording, the scene after the edit, and the score of an edited picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from unified.tasks.scenes.asking import refer
from unified.tasks.scenes.choice import pick
from unified.tasks.scenes.generate import MAXIMUM_OBJECTS, allowed, belongs, fits, place, settle
from unified.tasks.scenes.matching import alike, best_pairs, distance
from unified.tasks.scenes.relations import CELL_NAMES, GUARD, bounds, cell, in_cell
from unified.tasks.scenes.scene import VALUES, Filter, Scene, SceneObject, object_from_json
from unified.tasks.scenes.words import a, adjective, the

KINDS = ("recolour", "remove", "add", "move", "resize", "swap")
PARTS: dict[str, Callable[[Any], Any]] = {
    "old": object_from_json,
    "new": object_from_json,
    "wanted": Filter.from_json,
}
SAME_PLACE = 0.06  # two centres this near are the same place


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What changes: `old` objects (of the scene before) become `new` ones, pair by pair; add has no old,
    remove no new. In `new`, only the cell of an added or moved object is asked for, not its exact place.
    `wanted`: how a request names the old ones, if it does."""

    kind: str
    old: tuple[SceneObject, ...] = ()
    new: tuple[SceneObject, ...] = ()
    wanted: tuple[Filter, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of edit {self.kind!r}: choose one of {', '.join(KINDS)}")
        numbers = {"add": (0, 1), "remove": (1, 0), "swap": (2, 2)}.get(self.kind, (1, 1))
        if (len(self.old), len(self.new)) != numbers:
            raise ValueError(
                f"{self.kind} turns {numbers[0]} into {numbers[1]} objects, "
                f"not {len(self.old)} into {len(self.new)}"
            )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), **{name: [asdict(part) for part in getattr(self, name)] for name in PARTS}}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Edit:
        """The inverse of `to_json`; "wanted" may be missing. Raises ValueError for anything else."""
        try:
            data = {"wanted": (), **data}
            parts = {name: tuple(map(read, data[name])) for name, read in PARTS.items()}
            return Edit(**{**data, **parts})
        except (TypeError, KeyError) as error:
            raise ValueError(f"not the data of an edit: {error}") from None


def apply(edit: Edit, scene: Scene) -> Scene:
    """The scene after the edit. Raises ValueError if an object to change is not in the scene."""
    for item in edit.old:
        if item not in scene.objects:
            raise ValueError(
                f"the scene has no {item.size} {item.fill} {item.colour} {item.shape} to {edit.kind}"
            )
    if edit.kind == "add":
        return replace(scene, objects=(*scene.objects, *edit.new))
    if edit.kind == "remove":
        return replace(scene, objects=tuple(item for item in scene.objects if item not in edit.old))
    changed = dict(zip(edit.old, edit.new, strict=True))
    return replace(scene, objects=tuple(changed.get(item, item) for item in scene.objects))


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """An edit with its wording and the scene it leads to."""

    edit: Edit
    text: str
    after: Scene


def instruct(
    rng: np.random.Generator,
    scene: Scene,
    split: str,
    kind: str,
    most: int = MAXIMUM_OBJECTS,
    settled: bool = False,
) -> Instruction | None:
    """An edit of this kind whose result belongs to the split and has at most `most` objects, or None if none
    is found. `settled`: what is added or moved stands as near to the middle of its cell as it can."""
    for _ in range(60):
        proposed = PROPOSALS[kind](rng, scene, split)
        if proposed is None:
            continue
        edit, text = proposed
        if settled and kind in ("add", "move"):
            others = tuple(item for item in scene.objects if item not in edit.old)
            edit = replace(edit, new=tuple(settle(item, others) for item in edit.new))
        after = apply(edit, scene)
        if len(after.objects) <= most and fits(after) and belongs(after, split):
            return Instruction(edit=edit, text=text, after=after)
    return None


def _named(rng: np.random.Generator, scene: Scene) -> tuple[SceneObject, Filter, str] | None:
    """An object with what names it alone, also in words."""
    item = pick(rng, scene.objects)
    wanted = refer(rng, scene, item)
    return (item, wanted, the(rng, wanted)) if wanted else None


Proposal = tuple[Edit, str] | None


def _recolour(rng: np.random.Generator, scene: Scene, split: str) -> Proposal:
    named, colour = _named(rng, scene), pick(rng, VALUES["colour"])
    if named is None or colour == named[0].colour or not allowed(split, named[0].shape, colour):
        return None
    template = pick(rng, ("Make {} {}.", "Change the colour of {} to {}.", "Paint {} {}.", "Turn {} {}."))
    item, wanted, words = named
    new = replace(item, colour=colour)
    return Edit(kind="recolour", old=(item,), new=(new,), wanted=(wanted,)), template.format(words, colour)


def _resize(rng: np.random.Generator, scene: Scene, split: str) -> Proposal:
    named, size = _named(rng, scene), pick(rng, VALUES["size"])
    if named is None or size == named[0].size:
        return None
    template = pick(rng, ("Make {} {}.", "Change the size of {} to {}.", "Resize {} to {}."))
    item, wanted, words = named
    edit = Edit(kind="resize", old=(item,), new=(replace(item, size=size),), wanted=(wanted,))
    return edit, template.format(words, adjective(rng, size))


def _remove(rng: np.random.Generator, scene: Scene, split: str) -> Proposal:
    named = _named(rng, scene)
    if named is None or len(scene.objects) < 2:
        return None
    template = pick(rng, ("Remove {}.", "Delete {}.", "Take {} away.", "Erase {} from the picture."))
    item, wanted, words = named
    return Edit(kind="remove", old=(item,), wanted=(wanted,)), template.format(words)


def _inner(name: str) -> tuple[float, float, float, float]:
    """A cell's bounds less the guard, so that what is placed there is there beyond doubt."""
    left, right, top, bottom = bounds(name)
    return left + GUARD, right - GUARD, top + GUARD, bottom - GUARD


def _add(rng: np.random.Generator, scene: Scene, split: str) -> Proposal:
    wanted = Filter(**{name: pick(rng, values) for name, values in VALUES.items()})
    target = pick(rng, CELL_NAMES)
    if not allowed(split, wanted.shape, wanted.colour):
        return None
    item = place(rng, wanted, scene.objects, _inner(target))
    if item is None:
        return None
    template = pick(
        rng, ("Add {} in the {}.", "Draw {} in the {} as well.", "Put {} in the {}.", "Place {} in the {}.")
    )
    return Edit(kind="add", new=(item,)), template.format(a(rng, wanted), target)


def _move(rng: np.random.Generator, scene: Scene, split: str) -> Proposal:
    named, target = _named(rng, scene), pick(rng, CELL_NAMES)
    if named is None or in_cell(named[0], target):
        return None
    others = tuple(item for item in scene.objects if item is not named[0])
    item = place(rng, Filter.of(named[0]), others, _inner(target))
    if item is None or distance(item, named[0]) < 0.15:
        return None
    template = pick(rng, ("Move {} to {}.", "Shift {} to {}.", "Bring {} to {}."))
    edit = Edit(kind="move", old=(named[0],), new=(item,), wanted=(named[1],))
    return edit, template.format(named[2], f"the {target}")


def _swap(rng: np.random.Generator, scene: Scene, split: str) -> Proposal:
    first, second = _named(rng, scene), _named(rng, scene)
    if first is None or second is None or first[0] is second[0] or alike(first[0], second[0]):
        return None
    template = pick(
        rng, ("Swap {} and {}.", "Let {} and {} trade places.", "Exchange the positions of {} and {}.")
    )
    old = (first[0], second[0])
    new = (replace(old[0], x=old[1].x, y=old[1].y), replace(old[1], x=old[0].x, y=old[0].y))
    edit = Edit(kind="swap", old=old, new=new, wanted=(first[1], second[1]))
    return edit, template.format(first[2], second[2])


PROPOSALS: dict[str, Callable[[np.random.Generator, Scene, str], Proposal]] = {
    "recolour": _recolour,
    "remove": _remove,
    "add": _add,
    "move": _move,
    "resize": _resize,
    "swap": _swap,
}


def score_edit(edit: Edit, before: Scene, drawn: Scene) -> dict[str, float]:
    """Whether an edited picture, as read by the parser, shows the edit and nothing else; each 0 or 1.

    done: every new object is there and no old one is left. rest_unchanged: every other object and the
    ground are as before and nothing was added. both: the two at once. A picture left as it was has only
    rest_unchanged."""
    rest = tuple(item for item in before.objects if item not in edit.old)
    kept = _pair_off(rest, drawn.objects, _stands)
    remaining = tuple(item for j, item in enumerate(drawn.objects) if j not in kept.values())
    matches = _in_its_cell if edit.kind in ("add", "move") else _stands
    made = _pair_off(edit.new, remaining, matches)
    leftover = tuple(item for j, item in enumerate(remaining) if j not in made.values())
    gone = not any(_stands(old, item) for old in edit.old for item in leftover)
    done = len(made) == len(edit.new) and gone
    extra = len(remaining) > max(len(edit.old), len(edit.new))
    unchanged = len(kept) == len(rest) and not extra and drawn.background == before.background
    return {"done": float(done), "rest_unchanged": float(unchanged), "both": float(done and unchanged)}


def _pair_off(
    wanted: tuple[SceneObject, ...],
    found: tuple[SceneObject, ...],
    matches: Callable[[SceneObject, SceneObject], bool],
) -> dict[int, int]:
    """As many wanted objects as possible to found ones that match them."""
    gain = np.array([[float(matches(a, b)) for b in found] for a in wanted]).reshape(len(wanted), len(found))
    return {i: j for i, j in best_pairs(gain) if gain[i, j]}


def _stands(wanted: SceneObject, item: SceneObject) -> bool:
    return alike(wanted, item) and distance(wanted, item) <= SAME_PLACE


def _in_its_cell(wanted: SceneObject, item: SceneObject) -> bool:
    return alike(wanted, item) and in_cell(item, cell(wanted))
