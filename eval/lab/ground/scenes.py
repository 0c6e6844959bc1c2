"""The scenes of the laboratory: one or two solid shapes on plain ground, their captions and how a drawing is
scored.

A caption is nine words of a closed list: the ground, then size, colour, shape and place of each object, with
NOTHING in place of a second object. All captions have one length, so all rows of a base model have one
layout. Objects stand in the middle of their cell of the 3 x 3 grid, or as near to it as they can
(`tasks.scenes.generate.settle`); where in a cell an object stands is said by no word.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count as numbers

import numpy as np
from unified.tasks.sample import generator
from unified.tasks.scenes.choice import pick
from unified.tasks.scenes.drawing import Demand, Prompt, score_drawing
from unified.tasks.scenes.generate import HELD_OUT, belongs, place, settled
from unified.tasks.scenes.parser import parse
from unified.tasks.scenes.relations import CELL_NAMES, cell
from unified.tasks.scenes.render import render
from unified.tasks.scenes.scene import BACKGROUNDS, COLOURS, SHAPES, Filter, Scene, SceneObject

SIDE = 32  # pixels
SIZES = ("medium", "large")
NOTHING = "nothing"
WORDS = (NOTHING, *BACKGROUNDS, *SIZES, *COLOURS, *SHAPES, *CELL_NAMES)
CAPTION = 9  # words
NUMBER = {word: n for n, word in enumerate(WORDS)}
ATTRIBUTES = ("shape", "colour", "size", "position", "background", "count")


def scene(index: int, split: str = "train", seed: int = 0) -> Scene:
    """The scene of this number, the same every time."""
    rng = generator(seed, split, index)
    for _ in numbers():
        found = _drawn(rng)
        if found is not None and belongs(found, split):
            return found
    raise AssertionError


def _drawn(rng: np.random.Generator) -> Scene | None:
    objects: list[SceneObject] = []
    for _ in range(int(rng.integers(1, 3))):
        shape, colour = pick(rng, SHAPES), pick(rng, tuple(COLOURS))
        if (shape, colour) in HELD_OUT:
            return None
        wanted = Filter(shape=shape, colour=colour, size=pick(rng, SIZES), fill="solid")
        item = place(rng, wanted, tuple(objects))
        if item is None:
            return None
        objects.append(item)
    found = settled(Scene(background=pick(rng, tuple(BACKGROUNDS)), objects=tuple(objects)))
    return Scene(background=found.background, objects=tuple(sorted(found.objects, key=lambda o: (o.y, o.x))))


def pictures(scenes: Sequence[Scene], side: int = SIDE) -> np.ndarray:
    """uint8 [N, side, side, 3]."""
    return np.stack([render(one, side) for one in scenes])


def caption(one: Scene) -> list[int]:
    """The numbers of its nine words in WORDS."""
    words = [one.background]
    for item in one.objects:
        words += [item.size, item.colour, item.shape, cell(item)]
    return [NUMBER[word] for word in [*words, *[NOTHING] * (CAPTION - len(words))]]


def shape_class(one: Scene) -> int:
    """The number of the first object's shape: the class of class-conditional experiments."""
    return SHAPES.index(one.objects[0].shape)


def prompt(one: Scene) -> Prompt:
    """What a drawing of this caption must show."""
    demands = tuple(
        Demand(
            wanted=Filter(shape=item.shape, colour=item.colour, size=item.size, fill="solid"), cell=cell(item)
        )
        for item in one.objects
    )
    return Prompt(category="complete", demands=demands, background=one.background)


def score(one: Scene, picture: np.ndarray) -> dict[str, float]:
    """How far a picture uint8 [H, W, 3] shows what the caption of a scene says, each in [0, 1]:
    ATTRIBUTES, their mean `attributes`, `all` for everything at once, `valid` for as many objects as asked
    for and each of the asked shape."""
    drawn = parse(picture)
    found = score_drawing(prompt(one), drawn)
    kept = {name: float(found[name]) for name in ATTRIBUTES}
    mean = sum(kept[name] for name in ("shape", "colour", "position")) / 3
    valid = float(kept["shape"] == 1 and kept["count"] == 1)
    return {**kept, "attributes": mean, "all": float(found["all"]), "valid": valid}
