"""The task `maze_fill`: the algorithm lives in the pictures, the words say what a picture shows.

The answer draws before it speaks. After "fill" a sketch fills dead ends; when one shows nothing fresh, "walk"
follows, then a sketch for every cell or turn. An action is said after the sketch in which it begins, read off
the arrow. There is no chart, no search and no look ahead in words: without the sketches there is nothing to
read. Each sketch is a local function of the picture before it (`filling`), which no size changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from unified.tasks.mazes.filling import MARKS, State, begin, filling, walking
from unified.tasks.mazes.image_metrics import layout_consistent
from unified.tasks.mazes.maze import Maze, random_maze, route, walk
from unified.tasks.mazes.maze_task import Sizes, check_mazes, draw_walls, maze_of
from unified.tasks.mazes.metrics import score_text
from unified.tasks.mazes.scoring import check_answer, enlarge
from unified.tasks.mazes.tiles import ARROWS, FLOORS, cells_in, draw_tiles, room, tile
from unified.tasks.mazes.trace import images_of, text_of, user_content
from unified.tasks.sample import Sample, generator

TILES_PROMPT = "Find the way from the green arrow to the red disc: fill the dead ends, then walk."
FILL, WALK = "fill", "walk"
NEAR = 48  # mean difference of a pixel's channels up to which a tile is taken for another


@dataclass(frozen=True, kw_only=True)
class FillConfig:
    """`sizes`: (rows, columns) of train, validation and test; `unseen_sizes`: those of the compositional
    split; `rounds` of filling that one sketch shows. Cells are 8 pixels wide; where a maze is smaller than
    the picture, it stands anywhere in it."""

    seed: int = 0
    image_size: int = 64
    sizes: Sizes = tuple((rows, columns) for rows in (3, 4, 5) for columns in (3, 4, 5))
    unseen_sizes: Sizes = tuple((rows, columns) for rows in (6, 7, 8) for columns in (6, 7, 8))
    min_actions: int = 3
    rounds: int = 2

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if type(self.rounds) is not int or self.rounds < 1:
            raise ValueError(f"rounds must be a whole number of at least 1, got {self.rounds!r}")
        check_mazes(self.sizes, self.unseen_sizes, self.min_actions)
        for rows, columns in self.sizes + self.unseen_sizes:
            room(self.image_size, rows, columns)


class MazeFillTask:
    """Perfect mazes solved in sketches: dead ends are filled, then the way is walked. Implements
    `unified.tasks.sample.Task` and `unified.tasks.causality.SketchTask`."""

    name = "maze_fill"

    def __init__(self, config: FillConfig | None = None) -> None:
        self.config = config or FillConfig()

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample of this index; equal for equal seeds wherever it is made."""
        rng = generator(self.config.seed, split, index)
        walls = draw_walls(rng, self.config, split)
        return self.sample_of(random_maze(rng, walls, self.config.min_actions), rng)

    def sample_of(self, maze: Maze, rng: np.random.Generator) -> Sample:
        """The sample of a given maze; `rng` only decides where in the picture it stands."""
        size = self.config.image_size
        down, right = room(size, maze.rows, maze.columns)
        corner = 8 * int(rng.integers(down + 1)), 8 * int(rng.integers(right + 1))
        states = trace(maze, self.config.rounds)
        question = user_content(TILES_PROMPT, draw_tiles(begin(maze), size, corner))
        answer = spoken(states, [draw_tiles(state, size, corner) for state in states])
        meta = {
            "maze": maze.to_json(),
            "size": [maze.rows, maze.columns],
            "actions": [state.action for state in states if state.action],
            "parts": [int(bool(state.action)) for state in states],
            "image_size": size,
            "corner": list(corner),
            "rounds": self.config.rounds,
        }
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return Sample(task=self.name, messages=messages, meta=meta)

    def score(self, sample: Sample, answer: list[dict[str, Any]]) -> dict[str, float]:
        """`success` and `progress` compare the actions with the label, `goal_reached` executes them;
        `visual_success`: whether the last sketch shows the whole way walked; `layout`: the share of the
        sketches that keep the walls; `sketches`: the share of the trace's sketches that the answer's, in
        order, show (more or fewer count as wrong). Raises ValueError for a malformed answer or sample."""
        check_answer(answer)
        maze, corner, size = maze_of(sample), corner_of(sample), sample.meta["image_size"]
        text = score_text(text_of(answer), sample.meta["actions"])
        images = images_of(answer)
        fitting = [image for image in images if image.shape == (size, size, 3)]
        truth = [draw_tiles(state, size, corner) for state in trace(maze, sample.meta["rounds"])]
        before = enlarge(draw_tiles(begin(maze), size, corner))
        kept = sum(layout_consistent(before, enlarge(image)) for image in images)
        right = sum(
            a is not None and b is not None and a.shape == b.shape and _alike(a, b)
            for a, b in zip_longest(truth, images)
        )
        return {
            "success": float(text.accuracy == 1),
            "progress": text.accuracy,
            "goal_reached": float(walk(maze, text.actions).reached),
            "visual_success": float(bool(fitting) and _walked(fitting[-1], maze, corner)),
            "layout": kept / len(images) if images else 0.0,
            "sketches": right / max(len(truth), len(images)),
            "images": float(len(images)),
            "consistent_images": float(kept),
        }

    def read_sketches(self, sample: Sample, sketches: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """The answer that follows from these sketches alone: what each one's arrow says."""
        content: list[dict[str, Any]] = []
        for sketch in sketches:
            content.append({"type": "image", "image": sketch})
            action = MARKS[mark_in(sketch)]
            if action:
                content.append({"type": "text", "text": said(action)})
        return content


def trace(maze: Maze, rounds: int) -> list[State]:
    """The states that the sketches of a solution show: filling, then walking."""
    filled = list(filling(maze, rounds))
    return [*filled, *walking(filled[-1])]


def spoken(states: Sequence[State], pictures: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """The answer: a word before each sketch of filling and before the first of walking, then an action after
    the sketch in which it begins."""
    content: list[dict[str, Any]] = []
    marks = ["", *(state.mark for state in states)]
    for before, state, picture in zip(marks, states, pictures, strict=False):
        if state.mark == "start" or before == "start":
            content.append({"type": "text", "text": FILL if state.mark == "start" else WALK})
        content.append({"type": "image", "image": picture})
        if state.action:
            content.append({"type": "text", "text": said(state.action)})
    return content


def said(action: str) -> str:
    return f"<actions>{action}</actions>"


def mark_in(picture: np.ndarray) -> str:
    """What the arrow in a picture of tiles did last, by its colour; "start" where there is none."""
    pixels = picture.reshape(-1, 3).astype(int)
    counts = {}
    for mark, colour in ARROWS.items():
        counts[mark] = int((np.abs(pixels - colour).max(axis=1) <= NEAR).sum())
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else "start"


def corner_of(sample: Sample) -> tuple[int, int]:
    """Where the maze's top left corner stands in the picture, from the sample's meta alone."""
    missing = {"corner", "rounds"} - set(sample.meta)
    if missing:
        raise ValueError(f"the sample of task {sample.task!r} lacks {', '.join(sorted(missing))} in its meta")
    row, column = sample.meta["corner"]
    return int(row), int(column)


def _walked(picture: np.ndarray, maze: Maze, corner: tuple[int, int]) -> bool:
    """Whether the cells that a picture shows as passed are those of the way, and the arrow is at the goal."""
    cells = cells_in(picture, maze, corner).astype(int)
    middle = cells[:, :, 2:6, 2:6].reshape(maze.rows, maze.columns, -1, 3)
    grey = np.abs(middle - FLOORS["passed"]).max(axis=-1) <= NEAR
    passed = {(int(r), int(c)) for r, c in zip(*np.nonzero(grey.mean(axis=-1) > 0.5), strict=True)}
    sides = int(maze.cells[maze.goal[0]][maze.goal[1]], 16)
    arrived = (tile(sides, "arrived", heading, mark) for heading in range(4) for mark in ("first", "on"))
    return passed == set(route(maze)[:-1]) and any(_alike(cells[maze.goal], one) for one in arrived)


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether no square of 4 x 4 pixels differs by more than `NEAR` in the mean."""
    apart = np.abs(one.astype(int) - other.astype(int)).mean(axis=-1)
    height, width = apart.shape[0] // 4, apart.shape[1] // 4
    squares = apart[: height * 4, : width * 4].reshape(height, 4, width, 4).mean(axis=(1, 3))
    return bool((squares <= NEAR).all())
