"""Random scenes, and which split each may belong to.

Positions lie on a grid of 1/256 so that two different descriptions give two different pictures. A scene with
a held-out (shape, colour) pair is compositional; any other is train, validation or test by the hash of its
objects, so no two splits can share a scene, before or after an edit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from unified.tasks.sample import split_of
from unified.tasks.scenes.choice import chance, check_share, pick
from unified.tasks.scenes.relations import bounds, cell
from unified.tasks.scenes.scene import (
    ATTRIBUTES,
    BACKGROUNDS,
    SIZES,
    TEXTURES,
    VALUES,
    Filter,
    Scene,
    SceneObject,
)
from unified.tasks.scenes.shapes import EXTENTS

GRID = 256
LATTICE = 16  # settled objects stand on a grid of 1/16
GAP = 0.035  # free space between the circles around two objects, and half of it to the border
MAXIMUM_OBJECTS = 6

# One colour per shape: every shape and every colour still occurs in training, with other partners.
HELD_OUT = frozenset(
    {
        ("circle", "orange"),
        ("square", "purple"),
        ("triangle", "blue"),
        ("diamond", "red"),
        ("star", "cyan"),
        ("cross", "yellow"),
        ("heart", "green"),
        ("moon", "pink"),
        ("circle", "black"),
        ("star", "white"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a random scene should be like: the number of objects, attributes that all of them share, the
    textures of the ground that it is drawn from, and how likely its objects are `settled`."""

    least: int = 1
    most: int = MAXIMUM_OBJECTS
    shared: tuple[str, ...] = ()
    textures: tuple[str, ...] = TEXTURES
    settled: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most <= MAXIMUM_OBJECTS:
            raise ValueError(f"objects must be 1 to {MAXIMUM_OBJECTS}, got {self.least} to {self.most}")
        if not set(self.shared) <= set(ATTRIBUTES):
            raise ValueError(f"objects can share {', '.join(ATTRIBUTES)}, got {self.shared!r}")
        if not self.textures or not set(self.textures) <= set(TEXTURES):
            raise ValueError(f"textures must be some of {', '.join(TEXTURES)}, got {self.textures!r}")
        check_share("settled", self.settled)


def allowed(split: str, shape: str | None, colour: str | None) -> bool:
    """Whether this split may show or mention the pair."""
    return split == "compositional" or (shape, colour) not in HELD_OUT


def belongs(scene: Scene, split: str) -> bool:
    """Whether this scene may occur in this split; true for exactly one split."""
    held_out = any((item.shape, item.colour) in HELD_OUT for item in scene.objects)
    if held_out or split == "compositional":
        return held_out and split == "compositional"
    return split_of(scene.canonical()) == split


def fits(scene: Scene) -> bool:
    """Whether 1 to 6 objects lie inside the picture and keep their distance (so none hides another)."""
    objects = scene.objects
    return 1 <= len(objects) <= MAXIMUM_OBJECTS and all(
        inside(item) and all(apart(item, other) for other in objects[:i]) for i, item in enumerate(objects)
    )


def inside(item: SceneObject) -> bool:
    reach = item.radius * EXTENTS[item.shape] + GAP / 2
    return reach <= min(item.x, item.y) and max(item.x, item.y) <= 1 - reach


def apart(a: SceneObject, b: SceneObject) -> bool:
    reach = a.radius * EXTENTS[a.shape] + b.radius * EXTENTS[b.shape] + GAP
    return math.hypot(a.x - b.x, a.y - b.y) >= reach


def random_scene(rng: np.random.Generator, split: str, wish: Wish | None = None) -> Scene:
    """A random scene that belongs to the split."""
    wish = wish or Wish()
    number = int(
        rng.integers(wish.least, wish.most + 1)
    )  # kept while retrying: crowded scenes fail more often
    settles = wish.settled > 0 and chance(rng, wish.settled)
    while True:
        scene = _propose(rng, split, wish, number)
        if scene is None:
            continue
        for _ in range(40):
            scene = settled(scene) if settles else scene
            if belongs(scene, split):
                return scene
            scene = _nudge(rng, scene)


def settled(scene: Scene) -> Scene:
    """The scene with its objects settled, one after another."""
    objects = list(scene.objects)
    for i, item in enumerate(objects):
        objects[i] = settle(item, (*objects[:i], *objects[i + 1 :]))
    return replace(scene, objects=tuple(objects))


def settle(item: SceneObject, others: tuple[SceneObject, ...]) -> SceneObject:
    """The object as near to the middle of its cell as the others let it, on the lattice; as it is if no place
    there is free. Words name a cell at most: where in it an object stands is noise to who learns to draw."""
    left, right, top, bottom = bounds(cell(item))
    columns = range(math.ceil(left * LATTICE), math.floor(right * LATTICE) + 1)
    rows = range(math.ceil(top * LATTICE), math.floor(bottom * LATTICE) + 1)
    places = [replace(item, x=x / LATTICE, y=y / LATTICE) for y in rows for x in columns]
    free = [at for at in places if inside(at) and all(apart(at, other) for other in others)]
    middle = (left + right) / 2, (top + bottom) / 2
    return min(free, key=lambda at: math.hypot(at.x - middle[0], at.y - middle[1]), default=item)


def _nudge(rng: np.random.Generator, scene: Scene) -> Scene:
    """The scene with one object elsewhere: the cheap way to another hash, and so to another split."""
    moved = pick(rng, scene.objects)
    others = tuple(item for item in scene.objects if item is not moved)
    item = place(rng, Filter.of(moved), others)
    return replace(scene, objects=(*others, item)) if item else scene


def _propose(rng: np.random.Generator, split: str, wish: Wish, number: int) -> Scene | None:
    palette = _palette(rng, wish)
    forced = pick(rng, sorted(HELD_OUT)) if split == "compositional" else None
    if forced is not None:
        palette = _with_pair(palette, forced, wish)
    objects: list[SceneObject] = []
    for i in range(number):
        pair = forced if i == 0 else None
        item = place(rng, _random_filter(rng, split, palette, pair), tuple(objects))
        if item is None:
            return None
        objects.append(item)
    texture = pick(rng, wish.textures)
    return Scene(
        background=pick(rng, tuple(BACKGROUNDS)),
        texture=texture,
        texture_seed=0 if texture == "plain" else int(rng.integers(2**31)),
        objects=tuple(objects),
    )


def _palette(rng: np.random.Generator, wish: Wish) -> dict[str, tuple[str, ...]]:
    """The values each attribute may take in this scene; often few, so that objects share some."""
    palette: dict[str, tuple[str, ...]] = {}
    for name, values in VALUES.items():
        if name in wish.shared:
            palette[name] = (pick(rng, values),)
        elif name in ("shape", "colour") and chance(rng, 0.35):
            palette[name] = tuple(pick(rng, values) for _ in range(2))
        else:
            palette[name] = values
    return palette


def _with_pair(
    palette: dict[str, tuple[str, ...]], pair: tuple[str, str], wish: Wish
) -> dict[str, tuple[str, ...]]:
    named = dict(zip(("shape", "colour"), pair, strict=True))
    return {
        name: (named[name],) if name in named and name in wish.shared else values
        for name, values in palette.items()
    }


def _random_filter(
    rng: np.random.Generator,
    split: str,
    palette: dict[str, tuple[str, ...]],
    pair: tuple[str, str] | None,
) -> Filter | None:
    for _ in range(20):
        shape, colour = pair or (pick(rng, palette["shape"]), pick(rng, palette["colour"]))
        if allowed(split, shape, colour):
            size, fill = pick(rng, palette["size"]), pick(rng, palette["fill"])
            return Filter(shape=shape, colour=colour, size=size, fill=fill)
    return None


def place(
    rng: np.random.Generator,
    wanted: Filter | None,
    others: tuple[SceneObject, ...],
    bounds: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 1.0),
) -> SceneObject | None:
    """A free place for the object inside bounds (left, right, top, bottom), or None if none is found."""
    if wanted is None or wanted.shape is None or wanted.size is None:
        return None
    reach = SIZES[wanted.size] * EXTENTS[wanted.shape] + GAP / 2
    low_x, high_x = max(bounds[0], reach), min(bounds[1], 1 - reach)
    low_y, high_y = max(bounds[2], reach), min(bounds[3], 1 - reach)
    columns = math.ceil(low_x * GRID), math.floor(high_x * GRID)
    rows = math.ceil(low_y * GRID), math.floor(high_y * GRID)
    if columns[0] > columns[1] or rows[0] > rows[1]:
        return None
    for _ in range(30):
        x = int(rng.integers(columns[0], columns[1] + 1)) / GRID
        y = int(rng.integers(rows[0], rows[1] + 1)) / GRID
        item = SceneObject(**wanted.stated(), x=x, y=y)
        if all(apart(item, other) for other in others):
            return item
    return None
