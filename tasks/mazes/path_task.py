"""The task `maze_path`: every sketch extends the path by its next stretch, and the words say what it shows.

The published form (Latent Sketchpad, arXiv 2510.24514) with the order turned round: there a part lists its
actions and then draws them, so that a sketch adds nothing to the words before it; here it is drawn first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from unified.tasks.mazes.maze import Cell, Maze, neighbour, plan
from unified.tasks.mazes.maze_task import MazeConfig, MazeTask, maze_of
from unified.tasks.mazes.render import BLACK, PATH, Canvas, make_canvas
from unified.tasks.mazes.trace import images_of
from unified.tasks.sample import Sample


class MazePathTask:
    """The mazes of `maze`, every stretch of the path drawn before it is told. Implements
    `unified.tasks.sample.Task` and `unified.tasks.causality.SketchTask`."""

    name = "maze_path"

    def __init__(self, config: MazeConfig | None = None) -> None:
        self.told = MazeTask(config)
        self.config = self.told.config
        if self.config.charted:
            raise ValueError("the words of maze_path say what a sketch shows: it has no chart")

    def sample(self, index: int, split: str = "train") -> Sample:
        sample = self.told.sample(index, split)
        question, answer = sample.messages
        content: list[dict[str, Any]] = []
        for picture, actions in zip(images_of(answer["content"]), parts_of(sample), strict=True):
            content += [{"type": "image", "image": picture}, {"type": "text", "text": _said(actions)}]
        messages = [question, {"role": "assistant", "content": content}]
        return Sample(task=self.name, messages=messages, meta=sample.meta)

    def score(self, sample: Sample, answer: list[dict[str, Any]]) -> dict[str, float]:
        """As of `maze`."""
        return self.told.score(sample, answer)

    def read_sketches(self, sample: Sample, sketches: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """The answer that follows from these sketches alone: of the maze of the sample's size that each one
        shows, the actions along the stretch that it adds."""
        content: list[dict[str, Any]] = []
        done: list[str] = []
        start = maze_of(sample)
        for sketch in sketches:
            content.append({"type": "image", "image": sketch})
            actions = _along(sketch, start)
            if len(actions) > len(done):
                content.append({"type": "text", "text": _said(actions[len(done) :])})
                done = actions
        return content


def parts_of(sample: Sample) -> list[list[str]]:
    """The actions of a sample by part."""
    actions = list(sample.meta["actions"])
    return [[actions.pop(0) for _ in range(length)] for length in sample.meta["parts"]]


def _said(actions: Sequence[str]) -> str:
    return f"\n<actions>{', '.join(actions)}</actions>\n"


def _along(picture: np.ndarray, start: Maze) -> list[str]:
    """The actions along the path in a picture from where `start` says. Walls and path are read off pixels;
    [] where they are no maze with a path."""
    canvas = make_canvas(picture.shape[0], start.rows, start.columns)
    rows = []
    for row in range(start.rows):
        cells = [(row, column) for column in range(start.columns)]
        rows.append(
            "".join(f"{sum(_is_open(picture, canvas, c, h) << h for h in range(4)):x}" for c in cells)
        )
    path = _path(picture, canvas, start)
    if len(path) < 2:
        return []
    try:
        return plan(Maze(cells=tuple(rows), start=start.start, heading=start.heading, goal=path[-1]))
    except ValueError:
        return []


def _path(picture: np.ndarray, canvas: Canvas, start: Maze) -> list[Cell]:
    """The cells that a line leads through, from the start on."""
    path = [start.start]
    while True:
        ahead = [
            neighbour(path[-1], heading)
            for heading in range(4)
            if _border(picture, canvas, path[-1], heading) == PATH
        ]
        ahead = [cell for cell in ahead if cell not in path]
        if len(ahead) != 1:
            return path
        path.append(ahead[0])


def _is_open(picture: np.ndarray, canvas: Canvas, cell: Cell, heading: int) -> bool:
    return _border(picture, canvas, cell, heading) != BLACK


def _border(picture: np.ndarray, canvas: Canvas, cell: Cell, heading: int) -> tuple[int, ...]:
    """The colour in the middle of a cell's side, BLACK outside the picture."""
    top, left = canvas.corner(cell)
    middle = canvas.floor // 2
    places = (
        (top - 1, left + middle),
        (top + middle, left + canvas.floor),
        (top + canvas.floor, left + middle),
        (top + middle, left - 1),
    )
    row, column = places[heading]
    if not (0 <= row < picture.shape[0] and 0 <= column < picture.shape[1]):
        return BLACK
    return tuple(int(value) for value in picture[row, column])
