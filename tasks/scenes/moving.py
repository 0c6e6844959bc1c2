"""The task `scene_moves`: where will it be? Objects are moved by words, and every state is drawn.

The question names the moves and asks for the place of one object after all of them. The answer is a sketch
for each move, then the place, which stands in the last sketch and nowhere in the words before it. The
compositional split has longer lists of moves than any other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from unified.tasks.sample import Sample, generator, split_of
from unified.tasks.scenes.choice import pick, shuffled
from unified.tasks.scenes.generate import allowed
from unified.tasks.scenes.relations import CELLS, cell
from unified.tasks.scenes.render import Size, image_shape, render
from unified.tasks.scenes.scene import BACKGROUNDS, VALUES, Scene, SceneObject, object_from_json
from unified.tasks.scenes.turns import check_content, text_of
from unified.tasks.scenes.words import normal

DIRECTIONS = {"up": (-1, 0), "right": (0, 1), "down": (1, 0), "left": (0, -1)}
SIZES = ("small", "medium")  # a large object does not keep to one of nine places
MOST_OBJECTS = 6
Content = list[dict[str, Any]]
Move = tuple[int, str]  # which object, in which direction


@dataclass(frozen=True, kw_only=True)
class MovesConfig:
    """`size` is a side or (height, width) in pixels; a picture holds `least` to `most` objects; a question
    has as many moves as one of `moves` says, in the compositional split one of `unseen_moves`."""

    seed: int = 0
    size: Size = 64
    least: int = 2
    most: int = 4
    moves: tuple[int, ...] = (2, 3, 4)
    unseen_moves: tuple[int, ...] = (5, 6)

    def __post_init__(self) -> None:
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {self.seed!r}")
        if min(image_shape(self.size)) < 32:
            raise ValueError(f"size must be at least 32 so that sketches can be read, got {self.size!r}")
        if not 1 <= self.least <= self.most <= MOST_OBJECTS:
            raise ValueError(f"objects must be 1 to {MOST_OBJECTS}, got {self.least} to {self.most}")
        for name, numbers in (("moves", self.moves), ("unseen_moves", self.unseen_moves)):
            if not numbers or any(type(number) is not int or number < 1 for number in numbers):
                raise ValueError(f"{name} must be whole numbers of at least 1, got {numbers!r}")
        if both := set(self.moves) & set(self.unseen_moves):
            raise ValueError(f"moves and unseen_moves share {sorted(both)}: unseen must not be trained on")


class SceneMoves:
    """Move instructions on a scene, answered after drawing each state. Implements
    `unified.tasks.sample.Task` and `unified.tasks.causality.SketchTask`."""

    name = "scene_moves"

    def __init__(self, config: MovesConfig | None = None) -> None:
        self.config = config or MovesConfig()

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample with this number, the same every time. Raises ValueError for an unknown split or a bad
        index."""
        rng, config = generator(self.config.seed, split, index), self.config
        count = pick(rng, config.unseen_moves if split == "compositional" else config.moves)
        while True:
            scene = _scene(rng, config, split)
            moves = _moves(rng, scene, count) if scene else None
            if scene and moves:
                return self._sample(rng, scene, moves)

    def _sample(self, rng: np.random.Generator, scene: Scene, moves: list[Move]) -> Sample:
        scenes = after_moves(scene, moves)
        asked = pick(rng, sorted({number for number, _ in moves}))
        told = [f"Move the {name_of(scene.objects[number])} {where}." for number, where in moves]
        question = f"{' '.join(told)} Where is the {name_of(scene.objects[asked])} then?"
        place = cell(scenes[-1].objects[asked])
        answer: Content = [{"type": "image", "image": render(one, self.config.size)} for one in scenes]
        asking: Content = [
            {"type": "image", "image": render(scene, self.config.size)},
            {"type": "text", "text": question},
        ]
        messages = [
            {"role": "user", "content": asking},
            {"role": "assistant", "content": [*answer, {"type": "text", "text": place}]},
        ]
        meta = {
            "category": f"{len(moves)} moves",
            "scene": scene.to_json(),
            "moves": [list(move) for move in moves],
            "asked": asked,
            "answer": place,
        }
        return Sample(task=self.name, messages=messages, meta=meta)

    def score(self, sample: Sample, answer: Content) -> dict[str, float]:
        """`success`: the place is right; `sketches`: the share of the states that the answer's sketches, in
        order, show (more or fewer count as wrong). Raises ValueError for a malformed answer."""
        check_content(answer)
        scene = Scene.from_json(sample.meta["scene"])
        moves: list[Move] = [(int(number), str(where)) for number, where in sample.meta["moves"]]
        truth = [_seen(one) for one in after_moves(scene, moves)]
        shown = [_seen(_parsed(item["image"])) for item in answer if item["type"] == "image"]
        right = sum(one == other for one, other in zip(truth, shown, strict=False))
        return {
            "success": float(normal(text_of(answer)) == normal(sample.meta["answer"])),
            "sketches": right / max(len(truth), len(shown)),
            "images": float(len(shown)),
        }

    def read_sketches(self, sample: Sample, sketches: Sequence[np.ndarray]) -> Content:
        """The answer that follows from these sketches alone: where the last one shows the object."""
        content: Content = [{"type": "image", "image": sketch} for sketch in sketches]
        wanted = object_from_json(sample.meta["scene"]["objects"][sample.meta["asked"]])
        found = [item for item in _parsed(sketches[-1]).objects if name_of(item) == name_of(wanted)]
        return [*content, {"type": "text", "text": cell(found[0]) if found else "nowhere"}]


def after_moves(scene: Scene, moves: Sequence[Move]) -> list[Scene]:
    """The scene after the first move, the first two, ... ValueError for a move out of the picture or onto
    another object."""
    scenes = []
    for number, where in moves:
        scene = _moved(scene, number, where)
        scenes.append(scene)
    return scenes


def name_of(item: SceneObject) -> str:
    return f"{item.colour} {item.shape}"


def _scene(rng: np.random.Generator, config: MovesConfig, split: str) -> Scene | None:
    """Objects of different names in the middle of different places; None if they belong to another split.
    Their attributes decide it, so that a scene is in one split with all that moves make of it."""
    count = int(rng.integers(config.least, config.most + 1))
    places = shuffled(rng, [(row, column) for row in range(3) for column in range(3)])[:count]
    objects = []
    for row, column in places:
        attributes = {name: pick(rng, values) for name, values in {**VALUES, "size": SIZES}.items()}
        objects.append(SceneObject(**attributes, x=_middle(column), y=_middle(row)))
    names = {name_of(item) for item in objects}
    if len(names) < count or not all(allowed("train", item.shape, item.colour) for item in objects):
        return None
    kept = sorted(json.dumps([item.shape, item.colour, item.size, item.fill]) for item in objects)
    if split != "compositional" and split_of("|".join(kept)) != split:
        return None
    return Scene(background=pick(rng, tuple(BACKGROUNDS)), objects=tuple(objects))


def _moves(rng: np.random.Generator, scene: Scene, count: int) -> list[Move] | None:
    moves: list[Move] = []
    for _ in range(count):
        every = [(number, where) for number in range(len(scene.objects)) for where in DIRECTIONS]
        free = [move for move in every if _is_free(scene, *move)]
        if not free:
            return None
        moves.append(pick(rng, free))
        scene = _moved(scene, *moves[-1])
    return moves


def _moved(scene: Scene, number: int, where: str) -> Scene:
    if not _is_free(scene, number, where):
        raise ValueError(f"the {name_of(scene.objects[number])} cannot move {where}: the place is taken")
    row, column = _target(scene.objects[number], where)
    objects = list(scene.objects)
    objects[number] = replace(objects[number], x=_middle(column), y=_middle(row))
    return replace(scene, objects=tuple(objects))


def _is_free(scene: Scene, number: int, where: str) -> bool:
    row, column = _target(scene.objects[number], where)
    if not (0 <= row < 3 and 0 <= column < 3):
        return False
    return all(cell(item) != CELLS[row][column] for item in scene.objects)


def _target(item: SceneObject, where: str) -> tuple[int, int]:
    down, right = DIRECTIONS[where]
    return int(item.y * 3) + down, int(item.x * 3) + right


def _middle(place: int) -> float:
    """Of a row or column, on the grid of 1/64 so that pictures of 64 pixels show it the same everywhere."""
    return round((2 * place + 1) / 6 * 64) / 64


def _parsed(image: np.ndarray) -> Scene:
    from unified.tasks.scenes.parser import parse  # here: making samples must not need scikit-image

    return parse(image)


def _seen(scene: Scene) -> set[tuple[str, str]]:
    return {(name_of(item), cell(item)) for item in scene.objects}
