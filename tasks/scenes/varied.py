"""A second renderer, for pictures that are read: other hands than ours draw the same scenes.

Every choice depends on one seed: line widths, contours, edges (hard or smoothed by supersampling), sizes,
aspects, slight turns, forms of stars, crosses and moons, colours (ours or those of CSS), noise and JPEG. Two
scenes with one seed are drawn by one hand: what an edit leaves alone stays as it is. What is said of a scene
stays true: sizes vary by less than half of what lies between two of them, and no object leaves its part of
the picture.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from unified.tasks.scenes.choice import chance, pick
from unified.tasks.scenes.relations import bounds, cell
from unified.tasks.scenes.render import Size, image_shape, render, texture
from unified.tasks.scenes.scene import COLOURS, FILLS, GROUNDS, SHAPES, Scene, SceneObject
from unified.tasks.scenes.shapes import DISTANCES, EXTENTS, Distance, cross, star

Paint = Callable[[Scene, Size], np.ndarray]

RENDERERS = ("own", "varied")
CSS: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0),
    "orange": (255, 165, 0),
    "yellow": (255, 255, 0),
    "green": (0, 128, 0),
    "cyan": (0, 255, 255),
    "blue": (0, 0, 255),
    "purple": (128, 0, 128),
    "pink": (255, 120, 200),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}
APART = 90.0  # RGB distance of every object's colour, ours and that of CSS, from the ground
SHIFT = 0.012  # of the picture's sides, at most
EDGE = 0.004  # an object's centre keeps this from the border of its part


def painter(renderer: str, rng: np.random.Generator) -> Paint:
    """How pictures that are given are drawn: by `render`, or by a hand of its own. Only the latter draws from
    `rng`."""
    return render if renderer == "own" else VariedRenderer(int(rng.integers(2**31))).render


def readable(scene: Scene) -> bool:
    """Whether every object stands out from the ground."""
    ground = np.array(GROUNDS[scene.background], dtype=float)
    tones = [tone[item.colour] for item in scene.objects for tone in (COLOURS, CSS)]
    return all(np.linalg.norm(ground - np.array(tone)) >= APART for tone in tones)


def regrounded(rng: np.random.Generator, scene: Scene) -> Scene:
    """The scene on a ground of any colour that its objects stand out from, white and black more often."""
    names = (*["white"] * 5, *["black"] * 2, *GROUNDS)
    found = [name for name in names if readable(replace(scene, background=name))]
    return replace(scene, background=pick(rng, found)) if found else scene


@dataclass(frozen=True, kw_only=True)
class Form:
    """How one hand draws a shape with one fill: `scale` of its radius, `aspect` (width by height, squared),
    `angle` in radians, `mirrored`, and `stroke` of outlines in units of the radius."""

    distance: Distance
    scale: float
    aspect: float
    angle: float
    mirrored: bool
    stroke: float
    shift: tuple[float, float]


class VariedRenderer:
    """A way of drawing that depends on a seed alone."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        share = float(pick(rng, (0.0, 0.0, 0.5, 1.0, 1.0)))  # between our colours and those of CSS
        self.colours = {
            name: (1 - share) * np.array(tone) + share * np.array(CSS[name]) + rng.uniform(-10, 10, 3)
            for name, tone in COLOURS.items()
        }
        self.tint = rng.uniform(-6, 6, 3) * chance(rng, 0.5)
        self.supersampling = pick(rng, (1, 2, 2, 3, 4))  # 1: hard edges
        self.contour = float(rng.uniform(0.1, 0.2)) * chance(rng, 0.3)  # width in units of the radius
        self.contour_tone = pick(rng, (0.0, 0.0, 0.35, 0.5))  # share of the object's colour
        self.noise = float(rng.uniform(1, 6)) * chance(rng, 0.3)
        self.quality = int(rng.integers(45, 96)) if chance(rng, 0.4) else 0  # of JPEG, 0: none
        self.forms = {(shape, fill): _form(rng, shape) for shape in SHAPES for fill in FILLS}
        self.seed = seed

    def render(self, scene: Scene, size: Size = 64) -> np.ndarray:
        """The picture of a scene: uint8 [height, width, 3], the same bytes every time."""
        height, width = image_shape(size)
        image = np.array(GROUNDS[scene.background], dtype=float) + self.tint
        image = image + texture(scene, height, width)[..., None]
        for item in scene.objects:
            self._draw(image, item)
        if self.noise:
            image += np.random.default_rng(self.seed).normal(0, self.noise, image.shape)
        pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        return compressed(pixels, self.quality) if self.quality else pixels

    def _draw(self, image: np.ndarray, item: SceneObject) -> None:
        """Blends one object into the float image [H, W, 3], in place and only where it can reach."""
        height, width = image.shape[:2]
        form = self.forms[item.shape, item.fill]
        radius = item.radius * min(height, width) * form.scale
        x, y = _shifted(item, form.shift)
        x, y = x * width, y * height
        reach = radius * EXTENTS[item.shape] * 1.15 + 2
        top, bottom = max(0, math.floor(y - reach)), min(height, math.ceil(y + reach))
        left, right = max(0, math.floor(x - reach)), min(width, math.ceil(x + reach))
        distance = self._distance(form, radius, (x - left, y - top), (bottom - top, right - left))
        inner = distance if item.fill == "solid" else np.maximum(distance, -form.stroke - distance)
        window, colour = image[top:bottom, left:right], self.colours[item.colour]
        window += self._cover(inner, radius) * (colour - window)
        if self.contour and item.fill == "solid":
            line = np.maximum(distance, -max(self.contour, 1 / radius) - distance)
            window += self._cover(line, radius) * (colour * self.contour_tone - window)

    def _distance(
        self, form: Form, radius: float, centre: tuple[float, float], shape: tuple[int, int]
    ) -> np.ndarray:
        """Signed distance to the shape in units of its radius: float64 [s H, s W] on the finer grid."""
        s = self.supersampling
        x, y = (
            ((np.arange(length * s) + 0.5) / s - at) / radius
            for length, at in zip(shape[::-1], centre, strict=True)
        )
        across, down = np.meshgrid(x, y)
        cos, sin = math.cos(form.angle), math.sin(form.angle)
        u, v = (cos * across + sin * down) / form.aspect, (cos * down - sin * across) * form.aspect
        return form.distance(-u if form.mirrored else u, v)

    def _cover(self, distance: np.ndarray, radius: float) -> np.ndarray:
        """How much of each pixel is covered: float64 [H, W, 1] in [0, 1]; hard edges are 0 or 1."""
        s = self.supersampling
        if s == 1:
            return (distance <= 0)[..., None].astype(float)
        fine = np.clip(0.5 - distance * radius * s, 0.0, 1.0)
        height, width = fine.shape[0] // s, fine.shape[1] // s
        return fine.reshape(height, s, width, s).mean(axis=(1, 3))[..., None]


def _form(rng: np.random.Generator, shape: str) -> Form:
    distance = DISTANCES[shape]
    if shape == "star" and chance(rng, 0.5):
        distance = star(float(rng.uniform(0.42, 0.56)))
    elif shape == "cross" and chance(rng, 0.5):
        distance = cross(float(rng.uniform(0.24, 0.42)))
    upright = shape == "square"  # turned, it would be a diamond
    return Form(
        distance=distance,
        scale=float(rng.uniform(0.87, 1.08)),
        aspect=float(rng.uniform(0.94, 1.06)),
        angle=float(rng.normal(0, 0.04 if upright else 0.09)) * chance(rng, 0.6),
        mirrored=shape == "moon" and chance(rng, 0.4),
        stroke=float(rng.uniform(0.2, 0.33)),
        shift=(float(rng.uniform(-SHIFT, SHIFT)), float(rng.uniform(-SHIFT, SHIFT))),
    )


def _shifted(item: SceneObject, shift: tuple[float, float]) -> tuple[float, float]:
    """The centre a little elsewhere in its part of the picture."""
    left, right, top, bottom = bounds(cell(item))
    return (
        min(max(item.x + shift[0], left + EDGE), right - EDGE),
        min(max(item.y + shift[1], top + EDGE), bottom - EDGE),
    )


def compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    """The picture after JPEG of this quality: uint8 [H, W, 3]."""
    file = io.BytesIO()
    options: dict[str, Any] = {"quality": quality, "subsampling": 0}
    Image.fromarray(pixels).save(file, format="JPEG", **options)
    return np.asarray(Image.open(file).convert("RGB"))
