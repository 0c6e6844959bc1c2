"""A chart in words, before the way is walked: which sides of every cell are open, how far the goal reaches,
and the way from the start.

A route through a maze cannot be seen at a glance, but every line of a chart can: a cell's open sides are in
the picture, each cell that the goal reaches is next to one written before, and the way follows those entries
back. Both ends are named before they are needed: what words tell already is not looked for in a picture.
(Traces of a search as what is learned: Searchformer, arXiv 2402.14083.) Cells are named row by row, eight
names a row; sides are ^ up, > right, _ down, < left. From the way, with its turns, the actions are read off:
every part of a trace repeats its own stretch of it first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from string import ascii_letters, digits

from unified.tasks.mazes.maze import HEADINGS, LARGEST, Cell, Maze, heading_between, neighbour, route

NAMES = ascii_letters[26:] + ascii_letters[:26] + digits + "%&"
SIDES = "^>_<"
TURNS = ("", ")", "((", "(")  # to go on, to the right, around, to the left
JUNCTION = 3  # open sides


def chart(maze: Maze) -> str:
    """Three lines: the map, the cells from the goal to the start, the way (+ junctions, ( ) turns)."""
    cells = product(range(maze.rows), range(maze.columns))
    sides = "".join(name(cell) + _open_sides(maze, cell) for cell in cells)
    entries = _reached(maze)
    way = _marked(maze, route(maze), maze.heading)
    reached = "".join(f"{name(cell)}{SIDES[side]}{name(after)};" for cell, side, after in entries)
    return (
        f"Map of {maze.rows} rows and {maze.columns} columns:{sides}\n"
        f"To the goal ({name(maze.goal)}) from the start ({name(maze.start)}):{reached}\n"
        f"From the start ({name(maze.start)}), facing {HEADINGS[maze.heading]}:{way}\n"
    )


def stretch(maze: Maze, cells: Sequence[Cell], heading: int) -> str:
    """A piece of the way, with the side that is faced where it begins."""
    return SIDES[heading] + _marked(maze, cells, heading)


def name(cell: Cell) -> str:
    return NAMES[cell[0] * LARGEST + cell[1]]


def _open_sides(maze: Maze, cell: Cell) -> str:
    return "".join(SIDES[side] for side in range(4) if maze.is_open(cell, side))


def _reached(maze: Maze) -> list[tuple[Cell, int, Cell]]:
    """(cell, side, next cell towards the goal), nearest to the goal first, until the start is reached."""
    found: list[tuple[Cell, int, Cell]] = []
    known = [maze.goal]
    for cell in known:  # grows meanwhile
        for side in range(4):
            after = neighbour(cell, side)
            if maze.is_open(cell, side) and after not in known:
                known.append(after)
                found.append((after, (side + 2) % 4, cell))
                if after == maze.start:
                    return found
    return found


def _marked(maze: Maze, cells: Sequence[Cell], heading: int) -> str:
    """Cells in a row, each with the side it is left by and the turn this takes."""
    steps = ""
    for cell, after in pairwise(cells):
        side = heading_between(cell, after)
        steps += f"{_marked_name(maze, cell)}{SIDES[side]}{TURNS[(side - heading) % 4]}"
        heading = side
    return steps + _marked_name(maze, cells[-1])


def _marked_name(maze: Maze, cell: Cell) -> str:
    return name(cell) + "+" * (len(_open_sides(maze, cell)) >= JUNCTION)
