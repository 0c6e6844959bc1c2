"""Pictures made step by step: what comes next is said, then drawn, until all that was asked for is there.

A picture that shows many things takes one decision at a time, each with the picture so far before the eyes:
the interleaved thoughts of Latent Sketchpad (arXiv 2510.24514) and the spoken layouts of GoT (arXiv
2503.10639), for scenes. A step says all there is to know of its one change, whatever the request left open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from unified.tasks.scenes.captions import mentions
from unified.tasks.scenes.drawing import Demand, Prompt
from unified.tasks.scenes.editing import Edit
from unified.tasks.scenes.relations import CELL_NAMES, cell, meets
from unified.tasks.scenes.scene import Scene, SceneObject
from unified.tasks.scenes.words import SYNONYMS

NOTHING = "nothing"
PARTS = rf"\b({'|'.join(sorted(CELL_NAMES, key=len, reverse=True))}) (.*?)[;.]"


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is said, and the scene after it."""

    text: str
    scene: Scene


def drawing_steps(prompt: Prompt, scene: Scene) -> tuple[Step, ...]:
    """One object after another, in the order in which the prompt names them; the ground comes with the
    first."""
    objects = _in_order(prompt.demands, scene.objects)
    said = list(map(placed, objects))
    said[0] += f", on a {scene.background} background"
    scenes = [replace(scene, objects=tuple(objects[: i + 1])) for i in range(len(objects))]
    return _numbered(said, scenes)


def editing_steps(edit: Edit, before: Scene) -> tuple[Step, ...]:
    """What is seen, then the changes. An object that appears, goes, or stands in another's place: one step.
    To move is to go and to appear; to swap is to take each other's place."""
    if edit.kind == "swap":
        changes: list[tuple[SceneObject | None, SceneObject | None]] = [
            (edit.old[0], edit.new[1]),
            (edit.old[1], edit.new[0]),
        ]
    elif edit.kind == "move":
        changes = [(edit.old[0], None), (None, edit.new[0])]
    else:
        changes = [(edit.old[0] if edit.old else None, edit.new[0] if edit.new else None)]
    said, scenes, objects = [], [], before.objects
    for old, new in changes:
        objects = (*(item for item in objects if item != old), *([new] if new else []))
        said.append(_change(old, new))
        scenes.append(replace(before, objects=objects))
    first, *others = _numbered(said, scenes)
    return replace(first, text=f"{seen(before)} {first.text}"), *others


def seen(scene: Scene) -> str:
    """What stands in each of the nine parts, in reading order: "Seen: top left nothing; top centre a small
    solid red star; ...": a glance at each place is learned sooner than where to look next."""
    return f"Seen: {'; '.join(f'{name} {_inside(scene, name)}' for name in CELL_NAMES)}."


def _inside(scene: Scene, name: str) -> str:
    items = in_order([item for item in scene.objects if cell(item) == name])
    return " and ".join(map(_name, items)) or NOTHING


def in_order(items: Sequence[SceneObject]) -> list[SceneObject]:
    """As `seen` names them: part by part, in one part from top to bottom."""
    return sorted(items, key=lambda item: (CELL_NAMES.index(cell(item)), item.y, item.x))


def placed(item: SceneObject) -> str:
    """The object as `seen` names it, and its part."""
    return f"{_name(item)} in the {cell(item)}"


def score_seen(scene: Scene, text: str) -> dict[str, float]:
    """parts: share of the nine parts of a picture of which `text` says what `seen` says; all: every one."""
    right, said = (re.findall(PARTS, found) for found in (seen(scene), text))
    same = sum(part in said for part in right) / len(right)
    return {"parts": same, "all": float(right == said)}


def score_plan(prompt: dict[str, Any] | None, right: str, text: str) -> dict[str, float]:
    """Of steps in words alone. A drawing's (`prompt` in JSON form): whether there is one for each demanded
    object, in order, that states all the prompt does; what that leaves open is free. An edit's: whether they
    say what `right` says."""
    if prompt is None:
        return {"all": float(text.split() == right.split())}
    said, demands = mentions(text), Prompt.from_json(prompt).demands
    stated = [
        demand.wanted.stated().items() <= mention.wanted.stated().items()
        and demand.cell in (None, mention.cell)
        for demand, mention in zip(demands, said, strict=False)
    ]
    return {"all": float(len(said) == len(demands) and all(stated))}


def _change(old: SceneObject | None, new: SceneObject | None) -> str:
    """What stands there, word for word as `seen` says it, where, and what it becomes. The place comes last:
    what a request names are attributes, and the place follows from all of them."""
    was, now = (_name(item) if item else NOTHING for item in (old, new))
    return f"{was} in the {cell(old or new)} becomes {now}"  # type: ignore[arg-type]


def _name(item: SceneObject) -> str:
    return f"a {SYNONYMS[item.size][0]} {SYNONYMS[item.fill][0]} {item.colour} {item.shape}"


def _numbered(said: list[str], scenes: list[Scene]) -> tuple[Step, ...]:
    return tuple(
        Step(text=f"{i} of {len(said)}: {text}.", scene=scene)
        for i, (text, scene) in enumerate(zip(said, scenes, strict=True), 1)
    )


def _in_order(demands: tuple[Demand, ...], objects: tuple[SceneObject, ...]) -> list[SceneObject]:
    """The objects as the demands name them; those that none does, last."""
    left = list(objects)
    ordered = []
    for demand in demands:
        found = next((item for item in left if meets(item, demand.wanted, demand.cell)), None)
        if found is not None:
            ordered.append(found)
            left = [item for item in left if item is not found]
    return ordered + left
