"""Pictures that a sketch decoder learns from: strokes of Quick, Draw!, and pictures of traces.

Drawings are read from `.ndjson` files in the simplified form of the data set (Ha and Eck, arXiv 1704.03477):
`{"word": ..., "drawing": [[[x, ...], [y, ...]], ...]}`, coordinates from 0 to 255. Colours, widths of the
strokes (4 to 8 of 224 pixels) and background are drawn anew; half of the pictures are two drawings side by
side or one above the other, whichever is squarer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from unified.tasks.outside.faults import Faults

from unified.text_files import parse_json, read_lines

SIDE, MARGIN = 256, 8  # of the coordinates, around a drawing
WIDTHS, PUBLISHED_SIDE = (4, 8), 224
PAIRED = 0.5

Stroke = np.ndarray  # [points, 2]: x and y
Drawing = tuple[Stroke, ...]


@dataclass(frozen=True)
class Picture:
    """`shown` uint8 [H, W, 3]: what the vision encoder reads; `pixels` uint8 [S, S, 3]: the same at the size
    of the decoder's pictures; `foreground` bool [S, S]: what differs from the background."""

    shown: np.ndarray
    pixels: np.ndarray
    foreground: np.ndarray


def read_drawings(path: str | Path, faults: Faults | None = None) -> list[Drawing]:
    """The drawings of an `.ndjson` file, or of all in a folder. ValueError, with file and line, for a
    malformed one unless `faults` skips, and where there are none."""
    path, faults = Path(path).expanduser(), faults or Faults()
    files = sorted(path.glob("*.ndjson")) if path.is_dir() else [path]
    found: list[Drawing] = []
    for file in files:
        for number, line in enumerate(read_lines(file), start=1):
            with faults.at(f"{file} line {number}"):
                found.append(_drawing(parse_json(line)))
    faults.warn()
    if not found:
        raise ValueError(f"{path}: no drawings (.ndjson) lie there")
    return found


def _drawing(data: Any) -> Drawing:
    strokes = data.get("drawing") if isinstance(data, dict) else None
    if not isinstance(strokes, list) or not strokes:
        raise ValueError("a drawing has the key drawing, a list of strokes")
    return tuple(_stroke(stroke) for stroke in strokes)


def _stroke(stroke: Any) -> Stroke:
    pair = stroke[:2] if isinstance(stroke, list) else []
    if (
        len(pair) != 2
        or not all(isinstance(axis, list) and axis for axis in pair)
        or len({*map(len, pair)}) > 1
    ):
        raise ValueError("a stroke is a list of x and a list of y of one length")
    if not all(isinstance(value, int | float) and 0 <= value < SIDE for axis in pair for value in axis):
        raise ValueError(f"coordinates are numbers from 0 to {SIDE - 1}")
    return np.array(pair, np.float32).T


def picture(drawings: Sequence[Drawing], rng: np.random.Generator, size: int, shown: int) -> Picture:
    """A picture of one or two of the drawings, chosen at random, with sides of `size` and `shown` pixels."""
    count = 2 if rng.random() < PAIRED and len(drawings) > 1 else 1
    chosen = [drawings[int(number)] for number in rng.choice(len(drawings), count, replace=False)]
    background = int(rng.integers(2)) * 255
    parts = [_drawn(drawing, rng, background, shown) for drawing in chosen]
    canvas = parts[0] if count == 1 else _glued(parts, background)
    read, pixels = _resized(canvas, shown), _resized(canvas, size)
    return Picture(read, pixels, (pixels != background).any(axis=2))


def of_image(image: np.ndarray, size: int) -> Picture:
    """Any picture; its background is its most frequent colour."""
    pixels = _resized(Image.fromarray(image), size)
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    return Picture(image, pixels, (pixels != colours[counts.argmax()]).any(axis=2))


def _resized(image: Image.Image, size: int) -> np.ndarray:
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _drawn(drawing: Drawing, rng: np.random.Generator, background: int, size: int) -> Image.Image:
    """One drawing, as large as its strokes are."""
    points = np.concatenate(drawing)
    low, high = points.min(axis=0) - MARGIN, points.max(axis=0) + MARGIN
    scale = size / SIDE
    canvas = Image.new("RGB", tuple(np.ceil((high - low) * scale).astype(int).tolist()), (background,) * 3)
    pen = ImageDraw.Draw(canvas)
    width = max(round(int(rng.integers(WIDTHS[0], WIDTHS[1] + 1)) * size / PUBLISHED_SIDE), 1)
    for stroke in drawing:
        colour = tuple(rng.integers(256, size=3).tolist())
        line = [tuple(point) for point in ((stroke - low) * scale).tolist()]
        pen.line(line if len(line) > 1 else line * 2, fill=colour, width=width, joint="curve")
    return canvas


def _glued(parts: Sequence[Image.Image], background: int) -> Image.Image:
    """Two pictures side by side, or one above the other: the squarer of the two."""
    widths, heights = zip(*(part.size for part in parts), strict=True)
    beside, above = (sum(widths), max(heights)), (max(widths), sum(heights))
    across = _squareness(beside) >= _squareness(above)
    canvas = Image.new("RGB", beside if across else above, (background,) * 3)
    canvas.paste(parts[0], (0, 0))
    canvas.paste(parts[1], (widths[0], 0) if across else (0, heights[0]))
    return canvas


def _squareness(size: tuple[int, int]) -> float:
    return min(size) / max(size)
