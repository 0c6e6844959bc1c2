"""Perfect mazes: walls drawn as a uniformly random spanning tree, the unique route, and what the three
actions do.

The task is MazePlanning of Latent Sketchpad (arXiv 2510.24514), whose generator is not published. Actions:

- `turn left`, `turn right` rotate by 90 degrees on the spot;
- `go forward` moves at least one cell and goes on while the cell reached is a plain corridor, that is, open
  ahead and behind and closed at both sides. It therefore stops at corners, junctions, dead ends, and always
  at the goal. Facing a wall it is illegal.

A cell is (row, column) counted from the top left; a heading is an index of HEADINGS, clockwise from up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

HEADINGS = ("up", "right", "down", "left")
STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))
FORWARD, TURN_LEFT, TURN_RIGHT = "go forward", "turn left", "turn right"
ACTIONS = (FORWARD, TURN_LEFT, TURN_RIGHT)
SMALLEST, LARGEST = 3, 8

Cell = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Maze:
    """A perfect maze with its task. `cells`: per row a string with one hexadecimal digit per cell, bit h
    set where the side in heading h is open. Raises ValueError unless the passages form a spanning tree of
    3x3 to 8x8 cells."""

    cells: tuple[str, ...]
    start: Cell
    heading: int
    goal: Cell

    def __post_init__(self) -> None:
        check_size(self.rows, self.columns)
        _check_spanning_tree(self)
        for name, cell in (("start", self.start), ("goal", self.goal)):
            if not (0 <= cell[0] < self.rows and 0 <= cell[1] < self.columns):
                raise ValueError(f"{name} {cell} lies outside the {self.rows}x{self.columns} maze")
        if self.start == self.goal:
            raise ValueError(f"start and goal are the same cell {self.start}")
        if self.heading not in range(4):
            raise ValueError(f"heading must be 0 to 3 ({', '.join(HEADINGS)}), got {self.heading}")

    @property
    def rows(self) -> int:
        return len(self.cells)

    @property
    def columns(self) -> int:
        return len(self.cells[0]) if self.cells else 0

    @property
    def layout(self) -> str:
        """The walls alone as one canonical string: what decides the split."""
        return "/".join(self.cells)

    def is_open(self, cell: Cell, heading: int) -> bool:
        return bool(int(self.cells[cell[0]][cell[1]], 16) >> heading & 1)

    def to_json(self) -> dict[str, Any]:
        return {
            "cells": list(self.cells),
            "start": list(self.start),
            "heading": HEADINGS[self.heading],
            "goal": list(self.goal),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Maze:
        """The inverse of `to_json`. Raises ValueError in one line for anything else."""
        try:
            return Maze(
                cells=tuple(str(row) for row in data["cells"]),
                start=_cell(data["start"]),
                heading=HEADINGS.index(data["heading"]),
                goal=_cell(data["goal"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a maze: {error!r}") from error


@dataclass(frozen=True, kw_only=True)
class Pose:
    cell: Cell
    heading: int


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What a list of actions does. `cells`: every cell passed, in order, start included. `steps`: per
    executed action the number of cells moved. `fault`: why the walk ended early, or None."""

    pose: Pose
    cells: list[Cell]
    reached: bool
    steps: list[int] = field(default_factory=list)
    fault: str | None = None


def random_maze(rng: np.random.Generator, walls: tuple[str, ...], min_actions: int = 3) -> Maze:
    """Draws start, goal and heading into given walls so that the plan has at least `min_actions` actions (3
    always exist). The heading never points straight away from the first step, so the shortest action list
    is unique."""
    rows, columns = len(walls), len(walls[0])
    for _ in range(2_000):
        start, goal = (divmod(int(i), columns) for i in rng.choice(rows * columns, size=2, replace=False))
        away = Maze(cells=walls, start=start, heading=0, goal=goal)
        first = heading_between(*route(away)[:2])
        heading = (first + int(rng.integers(-1, 2))) % 4
        maze = Maze(cells=walls, start=start, heading=heading, goal=goal)
        if len(plan(maze)) >= min_actions:
            return maze
    raise ValueError(
        f"no start and goal with {min_actions} actions found in a {rows}x{columns} maze: ask for fewer"
    )


def random_walls(rng: np.random.Generator, rows: int, columns: int) -> tuple[str, ...]:
    """Uniform over all perfect mazes of this size: Wilson's loop-erased random walks (STOC 1996)."""
    check_size(rows, columns)
    opened = [[0] * columns for _ in range(rows)]
    joined = {(int(rng.integers(rows)), int(rng.integers(columns)))}
    for cell in product(range(rows), range(columns)):
        exits = _walk_to_tree(rng, joined, cell, rows, columns)
        while cell not in joined:
            joined.add(cell)
            heading = exits[cell]
            opened[cell[0]][cell[1]] |= 1 << heading
            cell = neighbour(cell, heading)
            opened[cell[0]][cell[1]] |= 1 << (heading + 2) % 4
    return tuple("".join(f"{sides:x}" for sides in row) for row in opened)


def route(maze: Maze) -> list[Cell]:
    """The cells of the only path from start to goal, both included."""
    came_from = {maze.start: maze.start}
    frontier = [maze.start]
    while maze.goal not in came_from:
        cell = frontier.pop()
        for heading in range(4):
            after = neighbour(cell, heading)
            if maze.is_open(cell, heading) and after not in came_from:
                came_from[after] = cell
                frontier.append(after)
    path = [maze.goal]
    while path[-1] != maze.start:
        path.append(came_from[path[-1]])
    return path[::-1]


def plan(maze: Maze) -> list[str]:
    """The shortest action list that reaches the goal: the label. Turning back, which only a hand-made maze
    can ask for (at the start), is two left turns."""
    path = route(maze)
    pose = Pose(cell=maze.start, heading=maze.heading)
    actions: list[str] = []
    while pose.cell != maze.goal:
        after = path[path.index(pose.cell) + 1]
        turn = (heading_between(pose.cell, after) - pose.heading) % 4
        turns = ([], [TURN_RIGHT], [TURN_LEFT, TURN_LEFT], [TURN_LEFT])[turn]
        actions += [*turns, FORWARD]
        pose = Pose(
            cell=go_forward(maze, pose.cell, (pose.heading + turn) % 4)[-1], heading=(pose.heading + turn) % 4
        )
    return actions


def walk(maze: Maze, actions: list[str]) -> Walk:
    """Executes actions from the start. Stops at the goal (what follows is ignored), at an unknown action,
    and at a `go forward` into a wall."""
    pose, cells, steps, fault = Pose(cell=maze.start, heading=maze.heading), [maze.start], [], None
    for action in actions:
        passed: list[Cell] = []
        if action == FORWARD:
            passed = go_forward(maze, pose.cell, pose.heading)
            fault = None if passed else f"wall ahead of {pose.cell}"
        elif action not in ACTIONS:
            fault = f"unknown action {action!r}"
        if fault:
            break
        turn = {FORWARD: 0, TURN_LEFT: -1, TURN_RIGHT: 1}[action]
        pose = Pose(cell=passed[-1] if passed else pose.cell, heading=(pose.heading + turn) % 4)
        cells += passed
        steps.append(len(passed))
        if pose.cell == maze.goal:
            break
    return Walk(pose=pose, cells=cells, reached=pose.cell == maze.goal, steps=steps, fault=fault)


def go_forward(maze: Maze, cell: Cell, heading: int) -> list[Cell]:
    """The cells entered by one `go forward`; empty when a wall is ahead."""
    passed: list[Cell] = []
    while maze.is_open(cell, heading):
        cell = neighbour(cell, heading)
        passed.append(cell)
        if cell == maze.goal or place(maze, cell, heading) != "corridor":
            break
    return passed


def place(maze: Maze, cell: Cell, heading: int) -> str:
    """What a cell is to someone who enters it with this heading: goal, corridor, corner, junction or dead
    end."""
    if cell == maze.goal:
        return "goal"
    ahead = maze.is_open(cell, heading)
    sides = maze.is_open(cell, (heading + 1) % 4) + maze.is_open(cell, (heading + 3) % 4)
    if ahead + sides == 0:
        return "dead end"
    if ahead + sides > 1:
        return "junction"
    return "corridor" if ahead else "corner"


def neighbour(cell: Cell, heading: int) -> Cell:
    return cell[0] + STEPS[heading][0], cell[1] + STEPS[heading][1]


def check_size(rows: int, columns: int) -> None:
    if not (SMALLEST <= rows <= LARGEST and SMALLEST <= columns <= LARGEST):
        raise ValueError(
            f"a maze has {SMALLEST}x{SMALLEST} to {LARGEST}x{LARGEST} cells, got {rows}x{columns}"
        )


def _walk_to_tree(
    rng: np.random.Generator, joined: set[Cell], cell: Cell, rows: int, columns: int
) -> dict[Cell, int]:
    """A random walk until it meets the tree; keeping only the last exit of each cell erases its loops."""
    exits: dict[Cell, int] = {}
    while cell not in joined:
        heading = int(rng.integers(4))
        after = neighbour(cell, heading)
        if 0 <= after[0] < rows and 0 <= after[1] < columns:
            exits[cell] = heading
            cell = after
    return exits


def heading_between(cell: Cell, after: Cell) -> int:
    """The heading from a cell to its neighbour; ValueError if they are not next to each other."""
    return STEPS.index((after[0] - cell[0], after[1] - cell[1]))


def _cell(value: Any) -> Cell:
    row, column = value
    return int(row), int(column)


def _check_spanning_tree(maze: Maze) -> None:
    """Same length rows of hexadecimal digits, passages seen from both sides, and a tree that spans all
    cells."""
    if any(len(row) != maze.columns or set(row) - set("0123456789abcdef") for row in maze.cells):
        raise ValueError("a maze needs rows of equal length with one hexadecimal digit per cell")
    cells = set(product(range(maze.rows), range(maze.columns)))
    doors = [(cell, heading) for cell in cells for heading in range(4) if maze.is_open(cell, heading)]
    for cell, heading in doors:
        after = neighbour(cell, heading)
        if after not in cells or not maze.is_open(after, (heading + 2) % 4):
            raise ValueError(f"the passage {HEADINGS[heading]} of cell {cell} leads nowhere")
    reached, frontier = {(0, 0)}, [(0, 0)]
    while frontier:
        cell = frontier.pop()
        after_cells = [neighbour(cell, heading) for heading in range(4) if maze.is_open(cell, heading)]
        frontier += [after for after in after_cells if after not in reached]
        reached.update(after_cells)
    if len(reached) != len(cells) or len(doors) != 2 * (len(cells) - 1):
        raise ValueError("not a perfect maze: every two cells need exactly one path between them")
