"""A maze solved in pictures alone: dead ends are filled by a local rule until only the way is left, then the
way is walked, a cell or a turn at a time.

Filling is the classical dead-end filling of perfect mazes. Whether a cell is a dead end is seen from its own
sides and those of its neighbours, so that one rule serves every size. Every state follows from the one before
it within as many cells as there are rounds; nothing is kept outside the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from unified.tasks.mazes.maze import (
    FORWARD,
    TURN_LEFT,
    TURN_RIGHT,
    Cell,
    Maze,
    Pose,
    heading_between,
    neighbour,
    place,
)

MARKS = {"start": "", "left": TURN_LEFT, "right": TURN_RIGHT, "first": FORWARD, "on": ""}
"""What has just been done, and the action that began with it: a run straight on is one `go forward`, begun at
its `first` cell and going `on` in the next ones."""

Cells = frozenset[Cell]


@dataclass(frozen=True, kw_only=True)
class State:
    """A maze while it is being solved. `fresh`: cells filled in the latest sketch, `filled`: before it;
    `passed`: cells that the walk has left; `mark`: one of MARKS."""

    maze: Maze
    pose: Pose
    mark: str = "start"
    fresh: Cells = field(default_factory=frozenset)
    filled: Cells = field(default_factory=frozenset)
    passed: Cells = field(default_factory=frozenset)

    @property
    def action(self) -> str:
        """The action that begins with this state, "" if none does."""
        return MARKS[self.mark]

    @property
    def arrived(self) -> bool:
        return self.pose.cell == self.maze.goal


def begin(maze: Maze) -> State:
    """The maze as it is given."""
    return State(maze=maze, pose=Pose(cell=maze.start, heading=maze.heading))


def fill(state: State, rounds: int = 2) -> State:
    """What the next sketch of filling shows: `rounds` rounds of filling, the cells of which are fresh."""
    before = state.filled | state.fresh
    after = before
    for _ in range(rounds):
        after |= {cell for cell in _cells(state.maze) if cell not in after and _dead_end(state, cell, after)}
    return replace(state, filled=before, fresh=after - before)


def step(state: State) -> State:
    """One cell on, or one turn, along the way that is left. ValueError where no single way is: at the goal,
    or before all dead ends are filled."""
    maze, pose = state.maze, state.pose
    ahead = [cell for cell in _open_to(maze, pose.cell) if _is_left(state, cell)]
    if state.arrived or len(ahead) != 1:
        raise ValueError(f"{len(ahead)} ways lead on from {pose.cell}: fill every dead end first")
    heading = heading_between(pose.cell, ahead[0])
    turn = (heading - pose.heading) % 4
    walked = replace(state, filled=state.filled | state.fresh, fresh=frozenset())
    if turn:
        mark = "right" if turn == 1 else "left"  # to go back is to turn left twice
        return replace(walked, pose=replace(pose, heading=(pose.heading + (turn == 1 or -1)) % 4), mark=mark)
    moving = state.mark in ("first", "on") and place(maze, pose.cell, pose.heading) == "corridor"
    return replace(
        walked,
        pose=replace(pose, cell=ahead[0]),
        mark="on" if moving else "first",
        passed=state.passed | {pose.cell},
    )


def filling(maze: Maze, rounds: int = 2) -> Iterator[State]:
    """The states of filling, up to the first in which nothing is fresh: only the way is left."""
    state = fill(begin(maze), rounds)
    yield state
    while state.fresh:
        state = fill(state, rounds)
        yield state


def walking(state: State) -> Iterator[State]:
    """The states of the walk from a filled maze to the goal."""
    while not state.arrived:
        state = step(state)
        yield state


def _cells(maze: Maze) -> Iterator[Cell]:
    return ((row, column) for row in range(maze.rows) for column in range(maze.columns))


def _open_to(maze: Maze, cell: Cell) -> list[Cell]:
    return [neighbour(cell, heading) for heading in range(4) if maze.is_open(cell, heading)]


def _is_left(state: State, cell: Cell) -> bool:
    return not any(cell in cells for cells in (state.fresh, state.filled, state.passed))


def _dead_end(state: State, cell: Cell, filled: Cells) -> bool:
    ends = (state.maze.start, state.maze.goal)
    return cell not in ends and sum(after not in filled for after in _open_to(state.maze, cell)) == 1
