"""Runs a scene program: uint8 pixels of its parts on grey, later ones on top; and their mask."""

from __future__ import annotations

import math

import numpy as np
from unified.tasks.programs.program import COLOURS, SIZES, Part, Program
from unified.tasks.scenes.shapes import DISTANCES

GROUND = (152, 152, 152)
SUPER = 2


def render(program: Program, size: int = 64) -> np.ndarray:
    """uint8 [size, size, 3], anti-aliased, the same bytes every time."""
    image = np.empty((size, size, 3))
    image[:] = GROUND
    for part in program:
        alpha = coverage(part, size)[..., None]
        image += alpha * (np.array(COLOURS[part.colour], float) - image)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def coverage(part: Part, size: int) -> np.ndarray:
    """How much of each pixel a part covers: float64 [size, size] in [0, 1]."""
    radius = SIZES[part.size] * size
    axis = (np.arange(size * SUPER) + 0.5) / SUPER
    x, y = np.meshgrid((axis - part.x * size) / radius, (axis - part.y * size) / radius)
    turn = math.radians(part.angle)
    sine, cosine = math.sin(turn), math.cos(turn)
    distance = DISTANCES[part.shape](cosine * x + sine * y, cosine * y - sine * x)
    fine = np.clip(0.5 - distance * radius * SUPER, 0.0, 1.0)
    return fine.reshape(size, SUPER, size, SUPER).mean(axis=(1, 3))


def overlap(one: Program, other: Program, size: int = 64) -> float:
    """Intersection over union of what two programs paint, colour by colour: a pixel counts as shared where
    both paint it in one colour. 1 for two empty programs."""
    first, second = (_labels(program, size) for program in (one, other))
    either = (first > 0) | (second > 0)
    same = (first == second) & (first > 0)
    return float(same.sum() / either.sum()) if either.any() else 1.0


def _labels(program: Program, size: int) -> np.ndarray:
    """[size, size]: 0 for ground, else 1 + the number of the colour on top."""
    found = np.zeros((size, size), np.int64)
    for part in program:
        found[coverage(part, size) > 0.5] = 1 + tuple(COLOURS).index(part.colour)
    return found
