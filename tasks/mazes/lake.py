"""FrozenLake as a planning task: gymnasium's own maps, map generator and environment, without slipping.

The picture is ours because the environment's renderer needs pygame. Actions carry the environment's names;
the goal can often be reached in several equally short ways, so an answer is judged by executing it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import gymnasium
import numpy as np
from gymnasium.envs.toy_text.frozen_lake import MAPS, generate_random_map

ACTIONS = ("left", "down", "right", "up")  # index = the environment's action
STEPS = ((0, -1), (1, 0), (0, 1), (-1, 0))
SMALLEST, LARGEST = 4, 8

Cell = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Lake:
    """A map of FrozenLake: rows of S (start, top left), F (ice), H (hole), G (goal, bottom right).
    Raises ValueError for other letters, unequal rows or a goal out of reach."""

    tiles: tuple[str, ...]

    def __post_init__(self) -> None:
        text = "".join(self.tiles)
        if (
            not self.tiles
            or any(len(row) != len(self.tiles[0]) for row in self.tiles)
            or set(text) - set("SFHG")
        ):
            raise ValueError("a lake needs rows of equal length made of the letters S, F, H and G")
        if (text[0], text[-1], text.count("S"), text.count("G")) != ("S", "G", 1, 1):
            raise ValueError("a lake needs its one S top left and its one G bottom right")
        if self.start not in distances(self):
            raise ValueError("the goal of this lake cannot be reached")

    @property
    def size(self) -> tuple[int, int]:
        return len(self.tiles), len(self.tiles[0])

    @property
    def start(self) -> Cell:
        return 0, 0

    @property
    def goal(self) -> Cell:
        return len(self.tiles) - 1, len(self.tiles[0]) - 1

    @property
    def layout(self) -> str:
        """The map as one canonical string: what decides the split."""
        return "/".join(self.tiles)


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """What a list of actions does in the environment. `cells`: every tile stood on, start included."""

    cells: list[Cell]
    reached: bool
    fault: str | None = None


def named_lake(name: str) -> Lake:
    """The published map of this name: 4x4 or 8x8."""
    if name not in MAPS:
        raise ValueError(f"unknown map {name!r}: choose one of {', '.join(MAPS)}")
    return Lake(tiles=tuple(MAPS[name]))


def random_lake(rng: np.random.Generator, size: int, frozen: float = 0.8) -> Lake:
    """One map of gymnasium's generator; `frozen` is the probability that a tile is ice."""
    tiles = generate_random_map(size=size, p=frozen, seed=int(rng.integers(2**31)))
    return Lake(tiles=tuple(str(row) for row in tiles))


def distances(lake: Lake) -> dict[Cell, int]:
    """Fewest actions from a tile to the goal, for every tile from which it can be reached (holes
    excluded)."""
    found, queue = {lake.goal: 0}, deque([lake.goal])
    while queue:
        cell = queue.popleft()
        for dr, dc in STEPS:
            r, c = before = cell[0] + dr, cell[1] + dc
            inside = 0 <= r < len(lake.tiles) and 0 <= c < len(lake.tiles[0])
            if inside and before not in found and lake.tiles[r][c] != "H":
                found[before] = found[cell] + 1
                queue.append(before)
    return found


def plan(lake: Lake) -> list[str]:
    """One shortest action list; among equals the first in the order of ACTIONS at every tile: the label."""
    left, cell, actions = distances(lake), lake.start, []
    while cell != lake.goal:
        for action, (dr, dc) in zip(ACTIONS, STEPS, strict=True):
            after = cell[0] + dr, cell[1] + dc
            if left.get(after, left[cell]) < left[cell]:
                actions.append(action)
                cell = after
                break
    return actions


def cross(lake: Lake, actions: list[str]) -> Crossing:
    """Executes actions in `FrozenLake-v1` (not slippery) until it ends or an unknown action comes."""
    env = gymnasium.make("FrozenLake-v1", desc=list(lake.tiles), is_slippery=False, disable_env_checker=True)
    env.reset(seed=0)
    cells, reached, fault = [lake.start], False, None
    for action in actions:
        if action not in ACTIONS:
            fault = f"unknown action {action!r}"
            break
        state, reward, terminated, truncated, _ = env.step(ACTIONS.index(action))
        row, column = divmod(int(state), len(lake.tiles[0]))
        cells.append((row, column))
        if terminated or truncated:
            reached = bool(float(reward) > 0)
            fault = (
                None if reached else f"fell into the hole at {cells[-1]}" if terminated else "ran out of time"
            )
            break
    env.close()
    return Crossing(cells=cells, reached=reached, fault=fault)


def progress(lake: Lake, crossing: Crossing) -> float:
    """1 when the goal is reached by any route; otherwise the length of the longest prefix that lies on some
    shortest route, divided by the length of a shortest route (the prefix rule of the maze task, over all
    equal labels)."""
    if crossing.reached:
        return 1.0
    left = distances(lake)
    total, steps = left[lake.start], 0
    for cell in crossing.cells[1:]:
        if left.get(cell) != total - steps - 1:
            break
        steps += 1
    return steps / total
