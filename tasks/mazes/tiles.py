"""Pictures of mazes made of tiles: every cell is 8 x 8 pixels at every size, so that a rule learned on small
mazes is the same on large ones.

Pure colours, no smoothing. A tile is four quadrants of 4 x 4 pixels, and all quadrants that there are can be
listed (`patches`): a codebook of them is lossless. Walls are one pixel of each of the two cells they part;
every corner of a cell is a post. What the arrow did last is its colour, the cell it stands on at the goal is
red.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from unified.tasks.mazes.filling import MARKS, State
from unified.tasks.mazes.maze import Cell, Maze

TILE = 8
WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)
FLOORS = {
    "free": WHITE,
    "fresh": (255, 170, 0),
    "filled": (240, 225, 170),
    "passed": (150, 150, 150),
    "arrived": RED,
}
ARROWS = {
    "start": (0, 160, 0),
    "left": (200, 0, 200),
    "right": (0, 190, 190),
    "first": (0, 0, 255),
    "on": (110, 110, 255),
}
_ARROW = ((1, 3, 5), (2, 2, 6), (3, 1, 7))  # row, first column, column after the last, facing up


def draw_tiles(state: State, size: int, corner: tuple[int, int] = (0, 0)) -> np.ndarray:
    """The state as uint8 [size, size, 3], the maze's top left corner at this pixel (row, column)."""
    image = np.full((size, size, 3), 255, np.uint8)
    for cell in product(range(state.maze.rows), range(state.maze.columns)):
        top, left = corner[0] + cell[0] * TILE, corner[1] + cell[1] * TILE
        image[top : top + TILE, left : left + TILE] = tile_of(state, cell)
    return image


def tile_of(state: State, cell: Cell) -> np.ndarray:
    """What one cell shows: uint8 [8, 8, 3]."""
    sides = int(state.maze.cells[cell[0]][cell[1]], 16)
    heading, mark = -1, ""
    if cell == state.pose.cell:
        heading, mark = state.pose.heading, state.mark
    return tile(sides, floor_of(state, cell), heading, mark, cell == state.maze.goal and not mark)


def floor_of(state: State, cell: Cell) -> str:
    if state.arrived and cell == state.maze.goal:
        return "arrived"
    return next((name for name in ("fresh", "filled", "passed") if cell in getattr(state, name)), "free")


@lru_cache(maxsize=4096)
def tile(sides: int, floor: str, heading: int = -1, mark: str = "", goal: bool = False) -> np.ndarray:
    """One cell. `sides`: bit h set where the side in heading h is open; `heading` and `mark` of the arrow,
    if there is one; `goal`: the disc."""
    image = np.full((TILE, TILE, 3), FLOORS[floor], np.uint8)
    if mark:
        arrow = np.zeros((TILE, TILE), bool)
        for row, first, stop in _ARROW:
            arrow[row, first:stop] = True
        image[np.rot90(arrow, -heading)] = ARROWS[mark]
    if goal:
        image[2:6, 3:5] = image[3:5, 2:6] = RED
    for side in range(4):
        border = np.rot90(image, side)[0]  # a view: the side of heading `side`
        border[[0, -1]] = BLACK
        if not sides >> side & 1:
            border[:] = BLACK
    image.flags.writeable = False
    return image


@lru_cache(maxsize=8)
def patches(side: int = 4) -> np.ndarray:
    """Every distinct square of `side` x `side` pixels that pictures show, uint8 [N, side, side, 3]."""
    every = [tile(sides, floor) for sides, floor in product(range(16), FLOORS)]
    every += [tile(sides, "free", goal=True) for sides in range(16)]
    arrows = [("free", mark) for mark in MARKS] + [("arrived", "first"), ("arrived", "on")]
    for sides, heading, (floor, mark) in product(range(16), range(4), arrows):
        every.append(tile(sides, floor, heading, mark))
    blank = np.full((TILE, TILE, 3), 255, np.uint8)
    stacked = np.stack([*every, blank])
    count = TILE // side
    cut = stacked.reshape(len(stacked), count, side, count, side, 3).transpose(0, 1, 3, 2, 4, 5)
    return np.unique(cut.reshape(-1, side, side, 3), axis=0)


def room(size: int, rows: int, columns: int) -> tuple[int, int]:
    """How many whole cells a maze can be moved down and to the right in a picture. ValueError if the picture
    is too small, or no multiple of a cell."""
    cells = size // TILE
    if size % TILE or cells < max(rows, columns):
        raise ValueError(
            f"image size {size} is no room for {rows}x{columns} cells of {TILE} pixels: "
            f"use a multiple of {TILE} from {TILE * max(rows, columns)} on"
        )
    return cells - rows, cells - columns


def cells_in(image: np.ndarray, maze: Maze, corner: tuple[int, int]) -> np.ndarray:
    """The tiles of a picture, uint8 [rows, columns, 8, 8, 3]."""
    top, left = corner
    part = image[top : top + maze.rows * TILE, left : left + maze.columns * TILE]
    return part.reshape(maze.rows, TILE, maze.columns, TILE, 3).swapaxes(1, 2)
