"""Pictures that show no shapes of the scenes: noise as in photographs, letters and words, other figures.

Drawn on a grid four times finer, then averaged down. What they show has no name in the vocabulary of the
scenes, so nothing can be said of it but that it is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from unified.tasks.scenes.choice import chance, pick
from unified.tasks.scenes.render import Size, image_shape
from unified.tasks.scenes.varied import compressed

FINER = 4
LETTERS = "ABCDEFGHKMNPQRSTVWYZabdefghkmnpqrsty2345678&?!@#%"
FEWEST_APART = 120.0  # RGB distance of what is drawn from the ground
HELD_OUT = ("trapezium", "face")  # figures of the compositional split alone

Point = tuple[float, float]


def odd_picture(rng: np.random.Generator, size: Size = 64, held_out: bool = False) -> np.ndarray:
    """A picture of something unknown: uint8 [height, width, 3]; `held_out`: of the figures of that name."""
    height, width = image_shape(size)
    if not held_out and chance(rng, 0.45):
        pixels = _photograph(rng, height, width)
    else:
        names = HELD_OUT if held_out else tuple(name for name in FIGURES if name not in HELD_OUT)
        pixels = _figures(rng, height, width, names)
    return compressed(pixels, int(rng.integers(50, 96))) if chance(rng, 0.4) else pixels


def _photograph(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Clouds of several scales, in colours of one place, with edges here and there."""
    total = np.zeros((height, width, 3))
    tones = rng.uniform(0, 255, (2, 3))
    steep = float(rng.uniform(0.4, 0.8))
    for octave in range(1, int(rng.integers(4, 7))):
        total += steep**octave * _clouds(rng, 2**octave + 1, height, width, pick(rng, (1, 3)))
    total = (total - total.min()) / max(float(np.ptp(total)), 1e-6)
    if chance(rng, 0.4):  # edges, as of hills and walls
        total = np.where(total > 0.5, total, total * rng.uniform(0.2, 0.6))
    if chance(rng, 0.4):
        total = 0.7 * total + 0.3 * np.linspace(0, 1, height)[:, None, None]
    image = tones[0] + (tones[1] - tones[0]) * total + rng.normal(0, rng.uniform(0, 8), total.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _clouds(rng: np.random.Generator, side: int, height: int, width: int, channels: int) -> np.ndarray:
    coarse = rng.uniform(0, 255, (side, side, channels)).astype(np.uint8)
    layers: list[np.ndarray] = [
        np.asarray(Image.fromarray(coarse[..., channel]).resize((width, height), Image.Resampling.BICUBIC))
        for channel in range(channels)
    ]
    return np.stack(layers, axis=-1).astype(float) / 255  # [H, W, channels]


def _figures(rng: np.random.Generator, height: int, width: int, names: tuple[str, ...]) -> np.ndarray:
    """One to four unknown figures on a plain ground."""
    ground = (
        rng.integers(0, 256, 3)
        if chance(rng, 0.5)
        else np.array(pick(rng, ((255,) * 3, (0,) * 3, (150,) * 3)))
    )
    canvas = Image.new("RGB", (width * FINER, height * FINER), tuple(int(value) for value in ground))
    pen = ImageDraw.Draw(canvas)
    number = pick(rng, (1, 1, 2, 3, 4))
    for _ in range(number):
        radius = float(rng.uniform(0.12, 0.4 if number == 1 else 0.22)) * min(height, width) * FINER
        x, y = (float(rng.uniform(0.25, 0.75)) * side * FINER for side in (width, height))
        FIGURES[pick(rng, names)](rng, pen, (x, y), radius, _tone(rng, ground))
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX))


def _tone(rng: np.random.Generator, ground: np.ndarray) -> tuple[int, int, int]:
    while True:
        tone = rng.integers(0, 256, 3)
        if np.linalg.norm(tone - ground) > FEWEST_APART:
            return int(tone[0]), int(tone[1]), int(tone[2])


Pen = ImageDraw.ImageDraw
Tone = tuple[int, int, int]


def _polygon(
    rng: np.random.Generator, pen: Pen, at: Point, points: list[Point], radius: float, tone: Tone
) -> None:
    """Points of the unit circle, turned a little; filled or as a line."""
    turn = float(rng.normal(0, 0.2))
    cos, sin = math.cos(turn), math.sin(turn)
    placed = [(at[0] + radius * (cos * x - sin * y), at[1] + radius * (sin * x + cos * y)) for x, y in points]
    if chance(rng, 0.7):
        pen.polygon(placed, fill=tone)
    else:
        pen.line([*placed, placed[0]], fill=tone, width=max(2, round(radius / 6)))


def _regular(rng: np.random.Generator, pen: Pen, at: Point, radius: float, tone: Tone) -> None:
    corners = pick(rng, (5, 6, 6, 7))
    angles = [2 * math.pi * k / corners for k in range(corners)]
    _polygon(rng, pen, at, [(math.sin(a), -math.cos(a)) for a in angles], radius, tone)


def _outlined(*points: Point) -> Callable[[np.random.Generator, Pen, Point, float, Tone], None]:
    def draw(rng: np.random.Generator, pen: Pen, at: Point, radius: float, tone: Tone) -> None:
        way = pick(rng, (1.0, -1.0))
        turned = [(way * x, y) if flat else (way * y, x) for flat in [chance(rng, 0.6)] for x, y in points]
        _polygon(rng, pen, at, turned, radius, tone)

    return draw


def _written(rng: np.random.Generator, pen: Pen, at: Point, radius: float, tone: Tone) -> None:
    word = "".join(pick(rng, LETTERS) for _ in range(pick(rng, (1, 1, 1, 2, 3, 5))))
    font = ImageFont.load_default(size=max(8, round(2.4 * radius / len(word) ** 0.6)))
    pen.text(at, word, fill=tone, font=font, anchor="mm")


def _face(rng: np.random.Generator, pen: Pen, at: Point, radius: float, tone: Tone) -> None:
    """A head with ears or without, two eyes and a mouth."""
    x, y = at
    dark = tuple(value // 3 for value in tone)
    if chance(rng, 0.6):
        for side in (-1, 1):
            ear = [
                (x + side * 0.9 * radius, y - 1.3 * radius),
                (x + side * 0.95 * radius, y),
                (x, y - 0.8 * radius),
            ]
            pen.polygon(ear, fill=tone)
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tone)
    for side in (-1, 1):
        eye, r = (x + side * 0.4 * radius, y - 0.25 * radius), 0.14 * radius
        pen.ellipse((eye[0] - r, eye[1] - r, eye[0] + r, eye[1] + r), fill=dark)
    box = (x - 0.5 * radius, y - 0.3 * radius, x + 0.5 * radius, y + 0.6 * radius)
    pen.arc(box, 20, 160, fill=dark, width=max(2, round(radius / 8)))


def _scribble(rng: np.random.Generator, pen: Pen, at: Point, radius: float, tone: Tone) -> None:
    """A line that turns and comes back: a spiral, a wave or a tangle."""
    steps = np.linspace(0, 1, 60)
    turns, waves = float(rng.uniform(2, 4)), rng.normal(0, 1, (2, 4))
    if chance(rng, 0.5):
        x, y = steps * np.cos(2 * np.pi * turns * steps), steps * np.sin(2 * np.pi * turns * steps)
    else:
        phase = 2 * np.pi * steps[:, None] * np.arange(1, 5)
        x, y = (np.sin(phase) @ waves[0]) / 2.5, (np.cos(phase) @ waves[1]) / 2.5
    line = [(at[0] + radius * float(a), at[1] + radius * float(b)) for a, b in zip(x, y, strict=True)]
    pen.line(line, fill=tone, width=max(2, round(radius / 6)))


FIGURES: dict[str, Callable[[np.random.Generator, Pen, Point, float, Tone], None]] = {
    "regular": _regular,
    "arrow": _outlined((-1, -0.3), (0.1, -0.3), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.3), (-1, 0.3)),
    "house": _outlined((-0.8, 1), (-0.8, -0.2), (0, -1), (0.8, -0.2), (0.8, 1)),
    "lightning": _outlined((0.2, -1), (-0.6, 0.2), (0, 0.2), (-0.3, 1), (0.6, -0.3), (0.1, -0.3)),
    "slanted": _outlined((-1, 0.5), (-0.4, -0.5), (1, -0.5), (0.4, 0.5)),
    "trapezium": _outlined((-1, 0.6), (-0.5, -0.6), (0.5, -0.6), (1, 0.6)),
    "written": _written,
    "written again": _written,
    "face": _face,
    "scribble": _scribble,
}
