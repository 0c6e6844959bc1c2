"""Pictures of mazes and lakes: five pure colours, no smoothing, any size.

White floor, black walls, green start, red goal (exactly 255, 0, 0), blue path (exactly 0, 0, 255; the
release names no colour). Every pixel is one of the five, so thresholds of the published image metric cannot
be missed by a blend, and one seed gives one image, byte for byte. Start and goal are drawn over the path. A
state image keeps the start marker and ends the path so far in a blue marker at the current pose; at the
goal the red disc takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from unified.tasks.mazes.lake import Lake
from unified.tasks.mazes.maze import STEPS, Cell, Maze, Pose

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
START, GOAL, PATH = (0, 160, 0), (255, 0, 0), (0, 0, 255)
LARGEST = 4096  # side of an image in pixels
SMALLEST_PITCH = 7  # narrower corridors leave the image metric too little path to see


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Where cells lie in an image. Cell (r, c) has its floor at rows top + r * pitch + wall and on, `floor`
    pixels."""

    image: np.ndarray  # [size, size, 3] uint8
    pitch: int
    wall: int
    top: int
    left: int

    @property
    def floor(self) -> int:
        return self.pitch - self.wall

    def corner(self, cell: Cell) -> tuple[int, int]:
        return self.top + cell[0] * self.pitch + self.wall, self.left + cell[1] * self.pitch + self.wall


def draw_maze(maze: Maze, size: int, cells: Sequence[Cell] = (), pose: Pose | None = None) -> np.ndarray:
    """The maze with the path through `cells` and a marker at `pose`: uint8 [size, size, 3]."""
    canvas = make_canvas(size, maze.rows, maze.columns)
    draw_on(canvas, maze, cells, pose)
    return canvas.image


def draw_on(canvas: Canvas, maze: Maze, cells: Sequence[Cell] = (), pose: Pose | None = None) -> None:
    """The same on a canvas with room for it."""
    for r in range(maze.rows):
        for c in range(maze.columns):
            for heading in range(4):
                if not maze.is_open((r, c), heading):
                    _wall(canvas, (r, c), heading)
    _path(canvas, cells)
    if pose is not None:
        _arrow(canvas, pose, PATH, 0.42)
    _arrow(canvas, Pose(cell=maze.start, heading=maze.heading), START, 0.36)
    _disc(canvas, maze.goal, GOAL, 0.3)


def draw_lake(lake: Lake, size: int, cells: Sequence[Cell] = (), here: Cell | None = None) -> np.ndarray:
    """The lake as a plan: holes are black discs, a black frame, and a dot where four tiles meet. [size,
    size, 3]."""
    rows, columns = lake.size
    canvas = make_canvas(size, rows, columns)
    for r in range(rows + 1):
        for c in range(columns + 1):
            frame = r in (0, rows) or c in (0, columns)
            _post(canvas, (r, c), canvas.wall if frame else max(1, canvas.wall - 1))
    for r in range(rows):
        for c in range(columns):
            for heading, (dr, dc) in enumerate(STEPS):
                if not (0 <= r + dr < rows and 0 <= c + dc < columns):
                    _wall(canvas, (r, c), heading)
            if lake.tiles[r][c] == "H":
                _disc(canvas, (r, c), BLACK, 0.42)
    _path(canvas, cells)
    if here is not None:
        _disc(canvas, here, PATH, 0.3)
    _disc(canvas, lake.start, START, 0.3)
    _disc(canvas, lake.goal, GOAL, 0.3)
    return canvas.image


def make_canvas(size: int, rows: int, columns: int, walls: float = 9.0) -> Canvas:
    """A white image with square cells as large as fit, `walls` times as wide as a wall, centred. Raises
    ValueError when cells get too small."""
    if size > LARGEST:
        raise ValueError(f"image size must be at most {LARGEST}, got {size}")
    cells, margin = max(rows, columns), size // 32
    room = size - 2 * margin
    wall = max(1, round(room / cells / walls))
    pitch = (room - wall) // cells
    if pitch < SMALLEST_PITCH:
        raise ValueError(
            f"image size {size} is too small for {rows}x{columns} cells: use at least {8 * cells}"
        )
    return Canvas(
        image=np.full((size, size, 3), 255, np.uint8),
        pitch=pitch,
        wall=wall,
        top=(size - rows * pitch - wall) // 2,
        left=(size - columns * pitch - wall) // 2,
    )


def _wall(canvas: Canvas, cell: Cell, heading: int) -> None:
    """The wall on one side of a cell, posts at both ends included."""
    y, x = canvas.corner(cell)
    y, x, wall, pitch = y - canvas.wall, x - canvas.wall, canvas.wall, canvas.pitch
    dy, dx = STEPS[heading]
    y, x = y + pitch * (dy > 0), x + pitch * (dx > 0)
    canvas.image[y : y + (pitch if dx else 0) + wall, x : x + (pitch if dy else 0) + wall] = BLACK


def _post(canvas: Canvas, cell: Cell, width: int) -> None:
    """A black square at the top left corner of a cell."""
    y, x = canvas.corner(cell)
    canvas.image[y - width : y, x - width : x] = BLACK


def _path(canvas: Canvas, cells: Sequence[Cell]) -> None:
    """A line a third of the corridor wide through the middles of cells; same parity as the floor, so
    centred."""
    width = max(2, canvas.floor // 3)
    width += (canvas.floor - width) % 2
    inset = (canvas.floor - width) // 2
    for a, b in pairwise(cells):
        (y0, x0), (y1, x1) = canvas.corner(min(a, b)), canvas.corner(max(a, b))
        canvas.image[y0 + inset : y1 + inset + width, x0 + inset : x1 + inset + width] = PATH


def offsets(canvas: Canvas, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each pixel from the middle of a cell, down [size, 1] and right [1, size]."""
    y, x = canvas.corner(cell)
    middle = (canvas.floor - 1) / 2
    index = np.arange(canvas.image.shape[0])
    return (index - y - middle)[:, None], (index - x - middle)[None, :]


def _disc(canvas: Canvas, cell: Cell, colour: tuple[int, int, int], radius: float) -> None:
    """A disc whose radius is a share of the floor."""
    down, right = offsets(canvas, cell)
    canvas.image[down**2 + right**2 <= (radius * canvas.floor) ** 2] = colour


def _arrow(canvas: Canvas, pose: Pose, colour: tuple[int, int, int], reach: float) -> None:
    """A triangle that points along the heading, `reach` (a share of the floor) from its middle to its tip."""
    down, right = offsets(canvas, pose.cell)
    dy, dx = STEPS[pose.heading]
    ahead, aside = down * dy + right * dx, np.abs(down * dx) + np.abs(right * dy)
    reach_pixels = reach * canvas.floor
    canvas.image[(ahead >= -reach_pixels) & (aside <= (reach_pixels - ahead) / 2 + 0.25)] = colour
