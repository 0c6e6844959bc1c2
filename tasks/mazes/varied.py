"""Mazes drawn by other hands: walls, margins, aspects, colours, forms of the goal, soft edges, JPEG.

Every choice depends on one seed, so that the sketches of a trace are drawn as its maze is. Start and goal
stay green and red in tone, as the request names them, and the start shows where it faces.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from unified.tasks.mazes.maze import Cell, Maze, Pose
from unified.tasks.mazes.render import BLACK, GOAL, PATH, START, WHITE, Canvas, draw_on, make_canvas, offsets
from unified.tasks.scenes.choice import chance, pick
from unified.tasks.scenes.varied import compressed

FINER = 2  # drawn so many times larger, then scaled down
TONES = {
    WHITE: (
        (255, 255, 255),
        (255, 255, 255),
        (250, 244, 226),
        (228, 228, 230),
        (222, 236, 250),
        (240, 250, 232),
    ),
    BLACK: ((0, 0, 0), (0, 0, 0), (60, 60, 66), (24, 30, 96), (84, 50, 26), (10, 60, 40), (110, 24, 30)),
    START: ((0, 160, 0), (0, 200, 60), (20, 120, 30), (60, 220, 90)),
    GOAL: ((255, 0, 0), (214, 36, 42), (240, 60, 60), (200, 0, 60)),
    PATH: ((0, 0, 255), (40, 80, 220), (60, 140, 250), (110, 60, 220)),
}
FORMS = ("disc", "disc", "square", "diamond", "ring")
FEWEST_PIXELS = 8  # of a cell's side in the picture


class VariedMaze:
    """A way of drawing mazes that depends on a seed alone."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.tones = {
            own: np.array(pick(rng, tones)) + rng.integers(-6, 7, 3) for own, tones in TONES.items()
        }
        if chance(rng, 0.1):  # light walls on a dark floor
            self.tones[WHITE], self.tones[BLACK] = self.tones[BLACK], self.tones[WHITE]
        self.outside = self.tones[WHITE] if chance(rng, 0.7) else rng.integers(120, 256, 3)
        self.walls = float(rng.uniform(5, 14))  # width of a cell in widths of a wall
        self.sides = rng.uniform(0.8, 1.0, 2) if chance(rng, 0.7) else np.full(2, rng.uniform(0.85, 1.0))
        self.place = rng.uniform(0, 1, 2)  # in the room that is left
        self.goal, self.goal_reach = pick(rng, FORMS), float(rng.uniform(0.22, 0.36))
        self.smooth = chance(rng, 0.7)
        self.quality = int(rng.integers(60, 96)) if chance(rng, 0.3) else 0  # of JPEG, 0: none

    def draw(self, maze: Maze, size: int, cells: Sequence[Cell] = (), pose: Pose | None = None) -> np.ndarray:
        """As `draw_maze`: uint8 [size, size, 3]."""
        canvas = make_canvas(size * FINER, maze.rows, maze.columns, self.walls)
        draw_on(canvas, maze, cells, pose)
        self._mark_goal(canvas, maze.goal)
        height, width = (n * canvas.pitch + canvas.wall for n in (maze.rows, maze.columns))
        plan = self._coloured(
            canvas.image[canvas.top : canvas.top + height, canvas.left : canvas.left + width]
        )
        room, longest = size, max(height, width)
        least = (FEWEST_PIXELS * maze.rows, FEWEST_PIXELS * maze.columns)
        box = [
            min(room, max(low, round(room * side * length / longest)))
            for low, side, length in zip(least, self.sides, (height, width), strict=True)
        ]
        way = Image.Resampling.BOX if self.smooth else Image.Resampling.NEAREST
        image = np.full((size, size, 3), np.clip(self.outside, 0, 255), np.uint8)
        top, left = (round(float(at) * (room - side)) for at, side in zip(self.place, box, strict=True))
        image[top : top + box[0], left : left + box[1]] = np.asarray(
            Image.fromarray(plan).resize((box[1], box[0]), way)
        )
        return compressed(image, self.quality) if self.quality else image

    def _mark_goal(self, canvas: Canvas, goal: Cell) -> None:
        """Its own form in place of the disc of `draw_on`."""
        down, right = offsets(canvas, goal)
        reach = canvas.floor / 2
        inside = (np.abs(down) < reach) & (np.abs(right) < reach)
        canvas.image[inside & (canvas.image == GOAL).all(axis=-1)] = WHITE
        down, right = np.abs(down) / canvas.floor, np.abs(right) / canvas.floor
        distance = {
            "square": np.maximum(down, right) * 1.15,
            "diamond": (down + right) * 0.85,
        }.get(self.goal, np.hypot(down, right))
        form = distance <= self.goal_reach
        if self.goal == "ring":
            form &= distance > self.goal_reach * 0.5
        canvas.image[form] = GOAL

    def _coloured(self, plan: np.ndarray) -> np.ndarray:
        """Each of the five colours by that of this hand."""
        image = np.empty_like(plan)
        for own, tone in self.tones.items():
            image[(plan == own).all(axis=-1)] = np.clip(tone, 0, 255)
        return image
