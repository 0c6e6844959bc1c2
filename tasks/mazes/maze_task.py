"""The task `maze` (with sketches) and `maze_text` (the same traces as text alone).

Sizes of training (3x3 to 5x5) fill train, validation and test; walls decide the split by hash, so the same
maze with another start or goal never appears in two. The split `compositional` holds the unseen sizes, 6x6
to 8x8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from unified.tasks.mazes.chart import chart
from unified.tasks.mazes.maze import Maze, check_size, plan, random_maze, random_walls, route, walk
from unified.tasks.mazes.metrics import score_text
from unified.tasks.mazes.render import draw_maze, make_canvas
from unified.tasks.mazes.scoring import check_answer, score_images
from unified.tasks.mazes.trace import (
    MAZE_PROMPT,
    assistant_content,
    cut_maze,
    free_prompt,
    maze_parts,
    text_of,
    user_content,
    without_sketches,
)
from unified.tasks.mazes.varied import VariedMaze
from unified.tasks.sample import Sample, check_split, generator, split_of
from unified.tasks.scenes.choice import check_choice

Sizes = tuple[tuple[int, int], ...]
MOST_DRAWS = 100_000


@dataclass(frozen=True, kw_only=True)
class MazeConfig:
    """`sizes`: (rows, columns) of train, validation and test; `unseen_sizes`: those of the compositional
    split. `charted`: traces begin with a chart of the maze in words, and every part with its
    stretch of the chart's way. `wording` of the request: "plain" or, half of the time other words, "free".
    `renderer`: "own" or "varied", other lines, margins, aspects, colours and markers (`varied`), which the
    metrics of images do not read."""

    seed: int = 0
    image_size: int = 64
    sizes: Sizes = tuple((rows, columns) for rows in (3, 4, 5) for columns in (3, 4, 5))
    unseen_sizes: Sizes = tuple((rows, columns) for rows in (6, 7, 8) for columns in (6, 7, 8))
    min_actions: int = 3
    charted: bool = False
    wording: str = "plain"
    renderer: str = "own"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if type(self.charted) is not bool:
            raise ValueError(f"charted must be true or false, got {self.charted!r}")
        check_choice("wording", self.wording, ("plain", "free"))
        check_choice("renderer", self.renderer, ("own", "varied"))
        check_mazes(self.sizes, self.unseen_sizes, self.min_actions)
        for rows, columns in self.sizes + self.unseen_sizes:
            make_canvas(self.image_size, rows, columns)


class MazeTask:
    """Perfect mazes with interleaved traces. Implements `unified.tasks.sample.Task`."""

    name = "maze"

    def __init__(self, config: MazeConfig | None = None) -> None:
        self.config = config or MazeConfig()

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample of this index; equal for equal seeds wherever it is made."""
        rng = generator(self.config.seed, split, index)
        walls = draw_walls(rng, self.config, split)
        return self.sample_of(random_maze(rng, walls, self.config.min_actions), rng)

    def sample_of(self, maze: Maze, rng: np.random.Generator) -> Sample:
        """The sample of a given maze; `rng` only decides where the trace is cut into parts."""
        actions = plan(maze)
        lengths, size = cut_maze(rng, actions), self.config.image_size
        charted = self.config.charted
        draw = draw_maze if self.config.renderer == "own" else VariedMaze(int(rng.integers(2**31))).draw
        prompt = MAZE_PROMPT if self.config.wording == "plain" else free_prompt(rng)
        parts = maze_parts(maze, actions, lengths, size, charted, draw)
        opening = chart(maze) if charted else ""
        messages = [
            {"role": "user", "content": user_content(prompt, draw(maze, size, (), None))},
            {"role": "assistant", "content": assistant_content(parts, opening)},
        ]
        meta = {
            "maze": maze.to_json(),
            "size": [maze.rows, maze.columns],
            "actions": actions,
            "parts": lengths,
            "image_size": size,
        }
        return Sample(task=self.name, messages=messages, meta=meta)

    def score(self, sample: Sample, answer: list[dict[str, Any]]) -> dict[str, float]:
        """Scores an assistant turn: `success` and `progress` compare with the label, `goal_reached`
        executes the actions in the maze; the rest as in `scoring`. Raises ValueError for a malformed answer
        or sample."""
        check_answer(answer)
        maze = maze_of(sample)
        text = score_text(text_of(answer), sample.meta["actions"])
        size = sample.meta["image_size"]
        solved = draw_maze(maze, size, route(maze))
        return {
            "success": float(text.accuracy == 1),
            "progress": text.accuracy,
            "goal_reached": float(walk(maze, text.actions).reached),
            **score_images(draw_maze(maze, size), [solved], answer),
        }


class MazeTextTask:
    """The same mazes as `maze`, shown once: the answer is text alone."""

    name = "maze_text"

    def __init__(self, config: MazeConfig | None = None) -> None:
        self.sketched = MazeTask(config)
        self.config = self.sketched.config

    def sample(self, index: int, split: str = "train") -> Sample:
        sample = self.sketched.sample(index, split)
        question, answer = sample.messages
        plain = {"role": answer["role"], "content": without_sketches(answer["content"])}
        return Sample(task=self.name, messages=[question, plain], meta=sample.meta)

    def score(self, sample: Sample, answer: list[dict[str, Any]]) -> dict[str, float]:
        return self.sketched.score(sample, answer)


def check_mazes(sizes: Sizes, unseen_sizes: Sizes, min_actions: int) -> None:
    """ValueError for sizes that mazes do not have or that are not apart, and for fewer than one action."""
    if min_actions < 1:
        raise ValueError(f"min_actions must be at least 1, got {min_actions}")
    if not sizes or not unseen_sizes:
        raise ValueError("sizes and unseen_sizes each need at least one (rows, columns)")
    if both := set(sizes) & set(unseen_sizes):
        raise ValueError(f"sizes and unseen_sizes share {sorted(both)}: unseen sizes must not be trained on")
    for rows, columns in sizes + unseen_sizes:
        check_size(rows, columns)


class Sized(Protocol):
    """A configuration that says which sizes of mazes there are."""

    @property
    def sizes(self) -> Sizes: ...

    @property
    def unseen_sizes(self) -> Sizes: ...


def draw_walls(rng: np.random.Generator, config: Sized, split: str) -> tuple[str, ...]:
    """Draws a size, then walls of that size until they belong to the split."""
    check_split(split)
    unseen = split == "compositional"
    sizes = config.unseen_sizes if unseen else config.sizes
    rows, columns = sizes[int(rng.integers(len(sizes)))]
    for _ in range(MOST_DRAWS):
        walls = random_walls(rng, rows, columns)
        if unseen or split_of("/".join(walls)) == split:
            return walls
    raise ValueError(f"no {rows}x{columns} maze found for the split {split}")


def maze_of(sample: Sample) -> Maze:
    """The maze of a sample, from its meta alone."""
    missing = {"maze", "actions", "image_size"} - set(sample.meta)
    if missing:
        raise ValueError(f"the sample of task {sample.task!r} lacks {', '.join(sorted(missing))} in its meta")
    return Maze.from_json(sample.meta["maze"])
