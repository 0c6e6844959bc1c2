"""A second renderer of scenes: polygons and ellipses of Pillow, supersampled, with a geometry of its own.

It shares the description of a scene (`tasks.scenes.scene`) with the first one and nothing else: shapes,
radii, colours, grounds and outlines are those of a `Style`. Objects may be rotated, solid ones may have a
dark contour, the picture may have gone through JPEG.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from unified.eval.suites.ood.settings import PALETTES, SUPERSAMPLING, Style
from unified.tasks.scenes.scene import SIZES, Scene, SceneObject

Point = tuple[float, float]
Points = list[Point]
RING = 72  # points of a circle


def paint(scene: Scene, style: Style) -> np.ndarray:
    """The picture of a scene in a style: uint8 [H, W, 3]. The scene's own ground is not looked at."""
    image = _ground(style)
    for item in scene.objects:
        colour = np.array(PALETTES[style.palette][item.colour], dtype=float)
        ink, line = covered(item, style)
        image += ink[..., None] * (colour - image)
        image += line[..., None] * (0.25 * colour - image)
    return compressed(np.clip(np.rint(image), 0, 255).astype(np.uint8), style.jpeg)


def covered(item: SceneObject, style: Style) -> tuple[np.ndarray, np.ndarray]:
    """How much of each pixel an object's colour and its contour cover: float [H, W] in [0, 1] each."""
    height, width = style.size
    radius = SIZES[item.size] * style.scale * min(height, width)
    x, y = item.x * width, item.y * height
    whole = outline_of(item.shape, style)

    def filled(margin: float) -> np.ndarray:
        """Coverage of the shape less a margin along its edge, in radii."""
        mask = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
        at = [((x + radius * px) * SUPERSAMPLING, (y + radius * py) * SUPERSAMPLING) for px, py in whole]
        draw = ImageDraw.Draw(mask)
        draw.polygon(at, fill=255)
        stroke = round(2 * margin * radius * SUPERSAMPLING)
        if stroke:
            draw.line([*at, *at[:2]], fill=0, width=stroke, joint="curve")
        return np.asarray(mask.reduce(SUPERSAMPLING), dtype=float) / 255

    full = filled(0)
    if item.fill == "outline":
        return full - filled(style.outline), np.zeros_like(full)
    if style.contour:
        inner = filled(style.contour)
        return inner, full - inner
    return full, np.zeros_like(full)


def outline_of(shape: str, style: Style) -> Points:
    """The closed outline of a shape of radius 1 around (0, 0), y downwards, turned as the style says."""
    angle = math.radians(style.rotation)
    cos, sin = math.cos(angle), math.sin(angle)
    return [(x * cos - y * sin, x * sin + y * cos) for x, y in OUTLINES[shape](style)]


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """The picture after JPEG of this quality; 0 leaves it as it is."""
    if not quality:
        return image
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _ground(style: Style) -> np.ndarray:
    height, width = style.size
    first, last = (np.array(colour, dtype=float) for colour in style.ground)
    along = (np.arange(height)[:, None] / height + np.arange(width)[None] / width) / 2  # [H, W]
    return first + along[..., None] * (last - first)


def _arc(x: float, y: float, radius: float, start: float, end: float, points: int) -> Points:
    """Points of an arc from one angle to another, in degrees, clockwise as seen (y downwards)."""
    angles = [math.radians(start + (end - start) * i / (points - 1)) for i in range(points)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def _circle(style: Style) -> Points:
    return _arc(0, 0, 1.0, 0, 360 * (RING - 1) / RING, RING)


def _square(style: Style) -> Points:
    half, corner = 0.9, style.corner
    if not corner:
        return [(-half, -half), (half, -half), (half, half), (-half, half)]
    centre = half - corner
    ends = ((centre, -centre, -90), (centre, centre, 0), (-centre, centre, 90), (-centre, -centre, 180))
    return [point for x, y, start in ends for point in _arc(x, y, corner, start, start + 90, 6)]


def _triangle(style: Style) -> Points:
    return [(0, -1.05), (1.0, 0.82), (-1.0, 0.82)]


def _diamond(style: Style) -> Points:
    return [(0, -1.2), (0.8, 0), (0, 1.2), (-0.8, 0)]


def _star(style: Style) -> Points:
    angles = [math.pi * i / 5 - math.pi / 2 for i in range(10)]
    radii = [1.2 * (style.star if i % 2 else 1) for i in range(10)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _cross(style: Style) -> Points:
    a, b = style.arm * 1.05, 1.05
    return [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a),
            (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]  # fmt: skip


def _heart(style: Style) -> Points:
    """Two arcs over a point."""
    left = _arc(-0.5, -0.4, 0.52, 150, 348, 16)
    right = _arc(0.5, -0.4, 0.52, 192, 390, 16)
    return [*left, *right, (0, 1.08)]


def _moon(style: Style) -> Points:
    """A disc of radius 1.05 less a disc of radius 0.9 that is shifted sideways by `bite`."""
    shift, outer, inner = abs(style.bite), 1.05, 0.9
    x = (outer**2 - inner**2 + shift**2) / (2 * shift)  # where the circles meet
    y = math.sqrt(max(outer**2 - x**2, 0.0))
    tip, cut = math.degrees(math.atan2(y, x)), math.degrees(math.atan2(y, x - shift))
    back = _arc(0, 0, outer, tip, 360 - tip, 40)
    points = [*back, *_arc(shift, 0, inner, 360 - cut, cut, 40)[1:-1]]
    return points if style.bite > 0 else [(-px, py) for px, py in points]


OUTLINES: dict[str, Callable[[Style], Points]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "star": _star,
    "cross": _cross,
    "heart": _heart,
    "moon": _moon,
}
