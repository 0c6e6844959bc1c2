"""A second renderer of mazes, and a reader of the way drawn on a sketch of one.

Walls are lines of any width and colour on any floor, the picture has the maze's own aspect. The reader looks
for blue in the middle of each cell, with the cells where this renderer or the first one put them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from unified.eval.suites.ood.painting import compressed
from unified.eval.suites.ood.settings import SUPERSAMPLING, MazeStyle
from unified.tasks.mazes.maze import STEPS, Cell, Maze, route
from unified.tasks.mazes.render import make_canvas

BLUE = 40  # by which blue exceeds red and green on the way


def paint_maze(maze: Maze, style: MazeStyle) -> np.ndarray:
    """The maze with the start as an arrow along its heading and a mark at the goal: uint8 [H, W, 3]."""
    s, pitch, margin = SUPERSAMPLING, style.size * SUPERSAMPLING, style.margin * style.size * SUPERSAMPLING
    height, width = picture_size(maze, style)
    image = Image.new("RGB", (width * s, height * s), style.floor)
    draw, half = ImageDraw.Draw(image), style.wall * pitch / 2

    def box(left: float, top: float, right: float, bottom: float) -> None:
        draw.rectangle((left - half, top - half, right + half - 1, bottom + half - 1), fill=style.wall_colour)

    for row in range(maze.rows):
        for column in range(maze.columns):
            x, y = margin + column * pitch, margin + row * pitch
            sides = ((x, y, x + pitch, y), (x + pitch, y, x + pitch, y + pitch),
                     (x, y + pitch, x + pitch, y + pitch), (x, y, x, y + pitch))  # fmt: skip
            for heading, side in enumerate(sides):
                if not maze.is_open((row, column), heading):
                    box(*side)

    def middle(cell: Cell) -> tuple[float, float]:
        return margin + (cell[1] + 0.5) * pitch, margin + (cell[0] + 0.5) * pitch

    reach = style.reach * pitch
    _arrow(draw, middle(maze.start), maze.heading, reach, style)
    _mark(draw, middle(maze.goal), reach, style)
    return compressed(np.asarray(image.resize((width, height), Image.Resampling.BOX)), style.jpeg)


def picture_size(maze: Maze, style: MazeStyle) -> tuple[int, int]:
    """(height, width) in pixels."""
    sides = [(cells + 2 * style.margin) * style.size for cells in (maze.rows, maze.columns)]
    return round(sides[0]), round(sides[1])


def shows_the_way(sketch: np.ndarray, maze: Maze, style: MazeStyle) -> bool:
    """Whether blue runs through all cells between start and goal, and no other, where either renderer puts
    them. sketch uint8 [H, W, 3]. Start and goal themselves may have any colour."""
    way = set(route(maze)[1:-1])
    cells = [(row, column) for row in range(maze.rows) for column in range(maze.columns)]
    judged = [cell for cell in cells if cell not in (maze.start, maze.goal)]
    colours = sketch.astype(int)
    blue = (colours[..., 2] - colours[..., :2].max(axis=-1) > BLUE).astype(float)  # [H, W]
    return any(
        all((_middle(blue, spots[cell]) > 0.5) == (cell in way) for cell in judged)
        for spots in (own_cells(maze, style), _first_cells(maze, sketch))
    )


def own_cells(maze: Maze, style: MazeStyle) -> dict[Cell, tuple[float, float]]:
    """The middle of each cell in this renderer's pictures, as fractions (y, x)."""
    height, width = maze.rows + 2 * style.margin, maze.columns + 2 * style.margin
    return {
        (row, column): ((row + 0.5 + style.margin) / height, (column + 0.5 + style.margin) / width)
        for row in range(maze.rows)
        for column in range(maze.columns)
    }


def _first_cells(maze: Maze, sketch: np.ndarray) -> dict[Cell, tuple[float, float]]:
    """The same in the first renderer's square pictures, as large as the sketch is."""
    size = 64
    canvas = make_canvas(size, maze.rows, maze.columns)
    cells = [(row, column) for row in range(maze.rows) for column in range(maze.columns)]
    middle = canvas.floor / 2
    return {cell: tuple((at + middle) / size for at in canvas.corner(cell)) for cell in cells}  # type: ignore[misc]


def _middle(blue: np.ndarray, at: tuple[float, float]) -> float:
    """The mean of the 3x3 pixels around a place."""
    y, x = int(at[0] * blue.shape[0]), int(at[1] * blue.shape[1])
    return float(blue[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].mean())


def _arrow(
    draw: ImageDraw.ImageDraw, middle: tuple[float, float], heading: int, reach: float, style: MazeStyle
) -> None:
    """A notched arrow head."""
    (dy, dx), (x, y) = STEPS[heading], middle
    local = ((1.1, 0.0), (-0.9, 0.85), (-0.4, 0.0), (-0.9, -0.85))  # ahead, aside
    points = [
        (x + reach * (ahead * dx - aside * dy), y + reach * (ahead * dy + aside * dx))
        for ahead, aside in local
    ]
    draw.polygon(points, fill=style.start)


def _mark(draw: ImageDraw.ImageDraw, middle: tuple[float, float], reach: float, style: MazeStyle) -> None:
    x, y = middle
    box = (x - reach, y - reach, x + reach, y + reach)
    if style.mark == "disc":
        draw.ellipse(box, fill=style.goal)
    elif style.mark == "ring":
        draw.ellipse(box, outline=style.goal, width=round(reach / 2))
    elif style.mark == "square":
        draw.rectangle(box, fill=style.goal)
    else:
        draw.polygon(star_points(x, y, reach * 1.15), fill=style.goal)


def star_points(x: float, y: float, reach: float) -> Sequence[tuple[float, float]]:
    """The corners of a five-pointed star."""
    radii = [reach * (1 if i % 2 == 0 else 0.45) for i in range(10)]
    return [
        (x + r * math.sin(math.pi * i / 5), y - r * math.cos(math.pi * i / 5)) for i, r in enumerate(radii)
    ]
