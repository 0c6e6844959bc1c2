"""Draws a scene: uint8 pixels that depend on the description and the size alone."""

from __future__ import annotations

import math

import numpy as np
from unified.tasks.scenes.scene import COLOURS, GROUNDS, Scene, SceneObject
from unified.tasks.scenes.shapes import EXTENTS, coverage

MINIMUM_SIZE = 16
MAXIMUM_SIZE = 4096

Size = int | tuple[int, int]


def image_shape(size: Size) -> tuple[int, int]:
    """(height, width) of a size given as a side or as (height, width). Raises ValueError for anything
    else."""
    pair = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, tuple | list) else ()
    good = len(pair) == 2 and all(type(side) is int and MINIMUM_SIZE <= side <= MAXIMUM_SIZE for side in pair)
    if not good:
        raise ValueError(
            f"size must be a side or (height, width) of {MINIMUM_SIZE} to {MAXIMUM_SIZE} pixels, got {size!r}"
        )
    return pair[0], pair[1]


def render(scene: Scene, size: Size = 64) -> np.ndarray:
    """The picture of a scene: uint8 [height, width, 3], anti-aliased, the same bytes every time."""
    height, width = image_shape(size)
    image = np.array(GROUNDS[scene.background], dtype=float) + texture(scene, height, width)[..., None]
    for item in scene.objects:
        _draw(image, item)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _draw(image: np.ndarray, item: SceneObject) -> None:
    """Blends one object into the float image [H, W, 3], in place and only where it can reach."""
    height, width = image.shape[:2]
    radius = item.radius * min(height, width)
    x, y = item.x * width, item.y * height
    reach = radius * EXTENTS[item.shape] + 2
    top, bottom = max(0, math.floor(y - reach)), min(height, math.ceil(y + reach))
    left, right = max(0, math.floor(x - reach)), min(width, math.ceil(x + reach))
    if top >= bottom or left >= right:
        return
    alpha = coverage(item.shape, item.fill, radius, (x - left, y - top), bottom - top, right - left)[
        ..., None
    ]
    window = image[top:bottom, left:right]
    window += alpha * (np.array(COLOURS[item.colour], dtype=float) - window)


def texture(scene: Scene, height: int, width: int) -> np.ndarray:
    """What the texture adds to every channel of the ground: float64 [height, width], within +-14."""
    rng = np.random.default_rng(scene.texture_seed)
    x = ((np.arange(width) + 0.5) / width)[None, :]
    y = ((np.arange(height) + 0.5) / height)[:, None]
    if scene.texture == "gradient":
        angle = rng.uniform(0, 2 * np.pi)
        return 14 * ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)) / 0.71
    if scene.texture == "speckle":
        return _value_noise(rng.uniform(-9, 9, (13, 13)), x[0], y[:, 0])
    if scene.texture == "checker":
        phase = rng.uniform(0, 1, 2)
        wave = np.sin(8 * np.pi * (x + phase[0] / 4)) * np.sin(8 * np.pi * (y + phase[1] / 4))
        return 5 * np.clip(6 * wave, -1, 1)
    if scene.texture == "stripes":
        along = (x, y, x + y, x - y)[int(rng.integers(4))] + np.zeros((height, width))
        return 6 * np.clip(2 * np.sin(2 * np.pi * (rng.uniform(5, 8) * along + rng.uniform())), -1, 1)
    return np.zeros((height, width))


def _value_noise(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear look-up of a square grid [G, G] at the points x [W], y [H] in [0, 1]: [H, W]."""

    def weights(at: np.ndarray) -> np.ndarray:
        place = at * (len(grid) - 1)
        return np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(len(grid))))  # [N, G]

    # einsum instead of a matrix product: its order of summation does not depend on threads.
    rows = np.einsum("hg,gk->hk", weights(y), grid)
    return np.einsum("hk,wk->hw", rows, weights(x))
