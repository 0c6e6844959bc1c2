"""Pictures made step by step: what comes next is said, then drawn, until all that was asked for is there.

A picture that shows many things takes one decision at a time, each with the picture so far before the eyes:
the interleaved thoughts of Latent Sketchpad (arXiv 2510.24514) and the spoken layouts of GoT (arXiv
2503.10639), for scenes. A step says all there is to know of its one change, whatever the request left open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from unified.tasks.scenes.captions import mentions
from unified.tasks.scenes.drawing import Demand, Prompt
from unified.tasks.scenes.editing import Edit
from unified.tasks.scenes.listing import NOTHING, described, placed, scan, seen
from unified.tasks.scenes.relations import cell, meets
from unified.tasks.scenes.scene import Scene, SceneObject


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
    """What is seen, the search for what the request names, then the changes. An object that appears, goes, or
    stands in another's place: one step. To move is to go and to appear; to swap is to take each other's
    place."""
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
    found = [scan(before, edit.wanted)] if edit.wanted else []
    return replace(first, text=" ".join([seen(before), *found, first.text])), *others


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
    was, now = (described(item) if item else NOTHING for item in (old, new))
    return f"{was} in the {cell(old or new)} becomes {now}"  # type: ignore[arg-type]


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
