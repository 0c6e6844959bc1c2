"""Pictures of other kinds: scenes inside windows and bars, photo-like textures, writing, unknown figures."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

SIDE = 192  # pixels of what is made here
WORDS = ("OPEN", "STOP HERE", "Sale 50%", "Exit", "Platform 9", "Ring the bell", "Room 214", "Bakery")
INKS = ((30, 30, 30), (160, 30, 40), (20, 90, 60), (90, 60, 20))


def framed(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A picture as a screenshot: inside a window with a title bar, or between black bars."""
    shown = Image.fromarray(picture)
    width, height = shown.size
    if rng.random() < 0.4:
        side = max(width, height) + max(width, height) // 6
        sheet = Image.new("RGB", (side, side), (12, 12, 12))
        sheet.paste(shown, ((side - width) // 2, (side - height) // 2))
        return np.asarray(sheet)
    bar, border = max(6, height // 10), max(2, height // 40)
    sheet = Image.new("RGB", (width + 2 * border, height + bar + border), (214, 216, 220))
    draw = ImageDraw.Draw(sheet)
    for i, colour in enumerate(((120, 122, 126), (150, 152, 156), (180, 182, 186))):
        left, size = border + i * bar, bar * 0.5
        draw.ellipse((left, bar * 0.25, left + size, bar * 0.25 + size), fill=colour)
    sheet.paste(shown, (border, bar))
    return np.asarray(sheet)


def photo(rng: np.random.Generator) -> np.ndarray:
    """A photo-like texture: octaves of smooth noise in earthy colours, a gradient of light, sensor noise."""
    height, width = SIDE, int(SIDE * rng.uniform(0.8, 1.4))
    relief = sum(
        strength * gaussian_filter(rng.normal(size=(height, width)), blur, mode="reflect") * blur
        for blur, strength in ((24, 1.0), (9, 0.5), (3, 0.25))
    )
    depth = (relief - relief.min()) / (np.ptp(relief) + 1e-9)
    low, high = rng.uniform(10, 90, 3), rng.uniform(120, 235, 3)
    image = low + depth[..., None] * (high - low)
    light = 0.6 + 0.6 * np.linspace(0, 1, height)[::-1, None, None]
    noisy = image * light + rng.normal(0, 7, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def written(rng: np.random.Generator) -> np.ndarray:
    """Writing on a plain sheet."""
    sheet = Image.new("RGB", (SIDE, SIDE), tuple(int(v) for v in rng.integers(225, 256, 3)))
    words = WORDS[int(rng.integers(len(WORDS)))]
    font = ImageFont.load_default(min(48, int(1.6 * SIDE / len(words))))
    ink = INKS[int(rng.integers(len(INKS)))]
    ImageDraw.Draw(sheet).text((SIDE / 2, SIDE / 2), words, fill=ink, font=font, anchor="mm")
    return np.asarray(sheet)


def unknown_figure(rng: np.random.Generator) -> np.ndarray:
    """The silhouette of something that no scene holds."""
    sheet = Image.new("RGB", (SIDE, SIDE), tuple(int(v) for v in rng.integers(215, 256, 3)))
    figure = FIGURES[int(rng.integers(len(FIGURES)))]
    ink = INKS[int(rng.integers(len(INKS)))]
    figure(ImageDraw.Draw(sheet), ink)
    return np.asarray(sheet)


Ink = tuple[int, int, int]


def _polygon(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], ink: Ink) -> None:
    draw.polygon([(SIDE * x, SIDE * y) for x, y in points], fill=ink)


def _oval(draw: ImageDraw.ImageDraw, left: float, top: float, right: float, bottom: float, ink: Ink) -> None:
    draw.ellipse((SIDE * left, SIDE * top, SIDE * right, SIDE * bottom), fill=ink)


def _arrow(draw: ImageDraw.ImageDraw, ink: Ink) -> None:
    _polygon(
        draw, [(0.1, 0.42), (0.6, 0.42), (0.6, 0.25), (0.92, 0.5), (0.6, 0.75), (0.6, 0.58), (0.1, 0.58)], ink
    )


def _cat(draw: ImageDraw.ImageDraw, ink: Ink) -> None:
    _oval(draw, 0.3, 0.42, 0.72, 0.9, ink)
    _oval(draw, 0.34, 0.2, 0.66, 0.5, ink)
    _polygon(draw, [(0.35, 0.34), (0.36, 0.1), (0.48, 0.22)], ink)
    _polygon(draw, [(0.52, 0.22), (0.64, 0.1), (0.65, 0.34)], ink)
    tail = [(0.7 + 0.1 * math.sin(t / 3), 0.85 - t / 24) for t in range(9)]
    draw.line([(SIDE * x, SIDE * y) for x, y in tail], fill=ink, width=SIDE // 18)


def _house(draw: ImageDraw.ImageDraw, ink: Ink) -> None:
    _polygon(draw, [(0.2, 0.45), (0.5, 0.15), (0.8, 0.45), (0.8, 0.85), (0.58, 0.85), (0.58, 0.6),
                    (0.42, 0.6), (0.42, 0.85), (0.2, 0.85)], ink)  # fmt: skip


def _fish(draw: ImageDraw.ImageDraw, ink: Ink) -> None:
    _oval(draw, 0.15, 0.32, 0.72, 0.68, ink)
    _polygon(draw, [(0.64, 0.5), (0.9, 0.3), (0.9, 0.7)], ink)


def _tree(draw: ImageDraw.ImageDraw, ink: Ink) -> None:
    _polygon(draw, [(0.45, 0.6), (0.55, 0.6), (0.57, 0.92), (0.43, 0.92)], ink)
    for left, top in ((0.2, 0.3), (0.45, 0.32), (0.32, 0.12), (0.33, 0.4)):
        _oval(draw, left, top, left + 0.34, top + 0.3, ink)


def _key(draw: ImageDraw.ImageDraw, ink: Ink) -> None:
    box = (SIDE * 0.1, SIDE * 0.35, SIDE * 0.4, SIDE * 0.65)
    draw.ellipse(box, outline=ink, width=SIDE // 16)
    _polygon(draw, [(0.38, 0.46), (0.9, 0.46), (0.9, 0.66), (0.82, 0.66), (0.82, 0.54), (0.74, 0.54),
                    (0.74, 0.62), (0.67, 0.62), (0.67, 0.54), (0.38, 0.54)], ink)  # fmt: skip


FIGURES: tuple[Callable[[ImageDraw.ImageDraw, Ink], None], ...] = (_arrow, _cat, _house, _fish, _tree, _key)
UNKNOWN: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "photo": photo,
    "text": written,
    "unknown shape": unknown_figure,
}
