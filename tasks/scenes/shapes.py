"""The public definition of every shape: a signed distance in unit coordinates (radius 1, y downwards).

Both the renderer and the parser's templates use these definitions; nothing else is shared between them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

STROKE = 0.3  # width of an outline in units of the radius

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def coverage(
    shape: str,
    fill: str,
    radius: float,
    centre: tuple[float, float],
    height: int,
    width: int,
    supersampling: int = 2,
) -> np.ndarray:
    """How much of each pixel a shape covers: float64 [height, width] in [0, 1].

    `radius` and `centre` (x, y) are in pixels. Anti-aliased by distance on a grid `supersampling` times
    finer."""
    s = supersampling
    x = ((np.arange(width * s) + 0.5) / s - centre[0]) / radius
    y = ((np.arange(height * s) + 0.5) / s - centre[1]) / radius
    distance = DISTANCES[shape](*np.meshgrid(x, y))  # [s H, s W]
    if fill == "outline":
        distance = np.maximum(distance, -STROKE - distance)
    fine = np.clip(0.5 - distance * radius * s, 0.0, 1.0)
    return fine.reshape(height, s, width, s).mean(axis=(1, 3))


def _polygon(vertices: np.ndarray) -> Distance:
    """Exact signed distance (negative inside) to a closed polygon. vertices [E, 2]."""
    starts, ends = vertices, np.roll(vertices, -1, axis=0)

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        squared = np.full(x.shape, np.inf)
        inside = np.zeros(x.shape, dtype=bool)
        for (ax, ay), (bx, by) in zip(starts, ends, strict=True):
            ex, ey = bx - ax, by - ay
            px, py = x - ax, y - ay
            along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0.0, 1.0)
            squared = np.minimum(squared, (px - along * ex) ** 2 + (py - along * ey) ** 2)
            if ey != 0:
                inside ^= ((y < ay) != (y < by)) & (x < ax + ex * (y - ay) / ey)
        return np.where(inside, -1.0, 1.0) * np.sqrt(squared)

    return distance


def _regular(points: int, radii: tuple[float, ...], shift: float = 0.0) -> Distance:
    """A polygon around the origin whose vertex radii repeat, first vertex on top, moved down by `shift`."""
    angles = 2 * np.pi * np.arange(points) / points - np.pi / 2
    radius = np.resize(np.array(radii), points)
    return _polygon(np.stack([radius * np.cos(angles), radius * np.sin(angles) + shift], axis=1))


def _box(half: float) -> Distance:
    return _polygon(np.array([(-half, -half), (half, -half), (half, half), (-half, half)]))


def star(inner: float) -> Distance:
    """Five points, the corners between them at `inner` of the radius."""
    return _regular(10, (1.16, inner), shift=0.06)


def cross(arm: float, length: float = 1.0) -> Distance:
    """Two upright bars, each `arm` to either side of its middle line."""
    a, b = arm, length
    corners = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b)]
    return _polygon(np.array([*corners, (-a, a), (-b, a), (-b, -a), (-a, -a)]))


def _heart(points: int = 48) -> Distance:
    t = 2 * np.pi * np.arange(points) / points
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return _polygon(np.stack([x, y - 2.5], axis=1) / 15.0)


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - 1.0


def _moon(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A crescent open to the right: a disc less a shifted disc."""
    return np.maximum(np.hypot(x, y) - 1.08, 0.85 - np.hypot(x - 0.72, y))


DISTANCES: dict[str, Distance] = {
    "circle": _circle,
    "square": _box(0.86),
    "triangle": _regular(3, (1.2,), shift=0.2),
    "diamond": _regular(4, (1.14, 0.86)),
    "star": star(0.5),
    "cross": cross(0.4),
    "heart": _heart(),
    "moon": _moon,
}


def _extent(distance: Distance) -> float:
    axis = np.linspace(-1.4, 1.4, 281)
    x, y = np.meshgrid(axis, axis)
    return float(np.hypot(x, y)[distance(x, y) <= 0].max())


# Radius of the smallest circle around the centre that holds the shape, in units of its nominal radius.
EXTENTS = {shape: _extent(distance) for shape, distance in DISTANCES.items()}
