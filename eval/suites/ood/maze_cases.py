"""Mazes up to 5x5 of the second renderer, solved by the verb, by /solve and in other words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from unified.eval.measurement import DATA_SEED
from unified.eval.suites.ood.asking import Case, Reply
from unified.eval.suites.ood.maze_painting import paint_maze, shows_the_way
from unified.eval.suites.ood.phrasings.mazes import MAZES
from unified.eval.suites.ood.settings import MAZE_STYLES, MazeStyle
from unified.eval.suites.ood.wording import deck, typed
from unified.tasks.mazes.maze import Maze, random_maze, walk
from unified.tasks.mazes.maze_task import MazeConfig, draw_walls
from unified.tasks.sample import generator

from unified.apps.assistant import Solution

CHANNELS = ("verb", "command", "chat", "verb", "long history")
SEED = DATA_SEED + 30


def maze_cases(split: str, count: int) -> Iterator[Case]:
    """As many mazes. Right: the actions lead to the goal. The chat is asked in other words, the verb every
    second time."""
    config = MazeConfig(seed=SEED)
    for number, (_, words) in enumerate(deck(generator(SEED, split, 0), {"maze": MAZES}, count)):
        rng = generator(SEED, split, number)
        maze = random_maze(rng, draw_walls(rng, config, split), config.min_actions)
        style = MAZE_STYLES[number % len(MAZE_STYLES)]
        channel = CHANNELS[number % len(CHANNELS)]
        asked = channel == "chat" or number % len(CHANNELS) == 3
        yield Case(
            kind=f"{max(maze.rows, maze.columns)} cells wide or high",
            words=typed(rng, words) if asked else "",
            verb="solve",
            channel=channel,
            right=lambda reply, maze=maze: leads_to_the_goal(reply, maze),  # type: ignore[misc]
            picture=paint_maze(maze, style),
            sketch=lambda sketch, maze=maze, style=style: _sketched(sketch, maze, style),  # type: ignore[misc]
        )


def leads_to_the_goal(reply: Reply, maze: Maze) -> bool:
    """Whether the actions named in the reply lead from start to goal."""
    actions = Solution.of([{"type": "text", "text": reply.text}]).actions
    return walk(maze, actions).reached


def _sketched(sketch: np.ndarray, maze: Maze, style: MazeStyle) -> bool:
    return shows_the_way(sketch, maze, style)
