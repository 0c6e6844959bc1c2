"""Picture files and PIL images as uint8 arrays: the one reader behind every entrance.

The size in the header is looked at before anything is decoded, and what decoding takes is estimated from
format and mode: at most `MEMORY` bytes, or the picture is refused. Pictures of more than `READ_PIXELS` pixels
are averaged over square boxes (a JPEG already while it is decoded), tile by tile, so that no second copy of
the full size is made. Turned as EXIF says, transparency laid over white, 16 bits rounded to 8. Torch is not
needed here.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from unified.text_files import LFS_POINTER, WEB_PAGE, is_lfs_pointer, is_web_page

FORMATS = ("PNG", "JPEG", "MPO", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "TGA", "PCX",
           "SGI", "QOI", "DDS", "DIB")  # fmt: skip
MOST_PIXELS = 178_956_970  # of a file of any format; where Pillow itself refuses unless told otherwise
READ_PIXELS = 2**24  # of an array read; larger pictures are averaged down to it
MEMORY = 272 * 2**20  # bytes that decoding may take; the array read adds 48 MiB
TILE = 2**20  # pixels converted at once
MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # in memory; all others 4
CODEC_BYTES = {"WEBP": 17, "AVIF": 20, "JPEG2000": 20}  # a pixel, decoder included, measured
LEAN = {"PNG": 1, "JPEG": 1, "MPO": 1, "GIF": 2}  # decoded images held at once; other formats 3

NOT_LOADED = "pictures are not downloaded: save it and give its path"

Crop = Callable[[int, int, int, int], Image.Image]


@dataclass(frozen=True)
class Opened:
    """An image uint8 [H, W, 3], and a note for the user ("" if there is none)."""

    image: np.ndarray
    note: str = ""


def open_picture(source: str | Path | bytes) -> Opened:
    """Read an image file, or its bytes; of an animation the first frame. ValueError, in one line, for what is
    missing, no image of these `FORMATS`, truncated, or too large to be decoded in `MEMORY` bytes."""
    with _header(source) as (picture, notes):
        name = "the picture" if isinstance(source, bytes) else Path(source).name
        return Opened(to_pixels(picture), f"{name}: {', '.join(notes)}" if notes else "")


def check_picture(source: str | Path | bytes) -> None:
    """The same refusals as far as the header shows them: nothing is decoded."""
    with _header(source):
        pass


@contextmanager
def _header(source: str | Path | bytes) -> Iterator[tuple[ImageFile.ImageFile, list[str]]]:
    """A picture that is not yet decoded, a large JPEG told to decode at reduced size, and what to note. All
    that goes wrong inside raises ValueError with the picture's name."""
    name = "the picture" if isinstance(source, bytes) else str(source)
    try:
        if not isinstance(source, bytes) and not Path(source).is_file():
            web = str(source).lower().startswith(("http:/", "https:/"))  # a Path has lost one of the slashes
            raise ValueError(NOT_LOADED if web else "no such file")
        Image.init()
        file = io.BytesIO(source) if isinstance(source, bytes) else Path(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures; the limits here are our own
            with Image.open(file, formats=[kind for kind in FORMATS if kind in Image.OPEN]) as picture:
                yield picture, _prepare(picture)
    except UnidentifiedImageError:
        raise ValueError(f"{name}: {_unknown(source)}") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{name}: more than {MOST_PIXELS // 10**6} million pixels: scale it down") from None
    except Exception as error:  # decoders of spoilt files raise errors of a dozen types
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ValueError(f"{name}: {reason}") from None


def _unknown(source: str | Path | bytes) -> str:
    """What stands in a picture's place."""
    if isinstance(source, bytes):
        head = source[:256]
    else:
        with Path(source).open("rb") as file:
            head = file.read(256)
    if is_lfs_pointer(head):
        return LFS_POINTER
    return WEB_PAGE if is_web_page(head) else "not a picture of a known kind"


def _prepare(picture: ImageFile.ImageFile) -> list[str]:
    (width, height), frames, notes = picture.size, getattr(picture, "n_frames", 1), []
    if frames > 1 and picture.format != "MPO":  # a photo with its preview is no animation
        notes.append(f"the first of {frames} frames")
    if width * height > READ_PIXELS:
        notes.append(f"read at reduced size, it has {width} x {height} pixels")
        factor = _factor(height, width)
        picture.draft(None, (max(1, width // factor), max(1, height // factor)))
    _check_memory(picture, width * height)
    return notes


def to_pixels(picture: Image.Image) -> np.ndarray:
    """uint8 [H, W, 3] of a PIL image, at most about `READ_PIXELS` pixels. 16-bit values (also those that
    Pillow holds in 32 bits) are 0..65535, floats 0..1. ValueError for values outside, and for an image of a
    file that is too large to be decoded."""
    if isinstance(picture, ImageFile.ImageFile):
        _check_memory(picture, picture.width * picture.height)

    def crop(top: int, bottom: int, left: int, right: int) -> Image.Image:
        return _eight_bits(picture.crop((left, top, right, bottom)))

    picture.load()  # before the size: a TIFF is turned by Pillow itself
    image = gather(crop, picture.height, picture.width)
    return np.ascontiguousarray(_turned(image, picture.getexif().get(0x0112, 1)))


def gather(crop: Crop, height: int, width: int) -> np.ndarray:
    """uint8 [h, w, 3] out of tiles: `crop(top, bottom, left, right)` gives one as a PIL image of mode L
    or RGB. More than `READ_PIXELS` pixels are averaged over boxes of the smallest whole side that will do."""
    if not height or not width:
        raise ValueError(f"an image needs at least one pixel, got {width} x {height}")
    factor = _factor(height, width)
    down, across = min(factor, height), min(factor, width)
    rows = down * max(1, 1024 // down)
    columns = across * max(1, TILE // min(rows, height) // across)
    image = np.empty((math.ceil(height / down), math.ceil(width / across), 3), np.uint8)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            tile = crop(top, min(top + rows, height), left, min(left + columns, width))
            tile = tile.reduce((across, down)) if factor > 1 else tile
            y, x = top // down, left // across
            image[y : y + tile.height, x : x + tile.width] = np.asarray(tile.convert("RGB"))
    return image


def _factor(height: int, width: int) -> int:
    """The smallest side of boxes that leaves at most `READ_PIXELS` of them."""
    factor = 1
    while math.ceil(height / factor) * math.ceil(width / factor) > READ_PIXELS:
        factor += 1
    return factor


# Memory ---------------------------------------------------------------------------------------------------


def _check_memory(picture: ImageFile.ImageFile, pixels: int) -> None:
    """`pixels`: of the file; `picture.size` may have been reduced for decoding (JPEG)."""
    kind = picture.format or ""
    held = MODE_BYTES.get(picture.mode, 4) * LEAN.get(kind, 3)
    needed = CODEC_BYTES.get(kind, held) * picture.width * picture.height + _coefficients(picture, pixels)
    if pixels > MOST_PIXELS or needed > MEMORY:
        raise ValueError(
            f"too many pixels for this kind of picture ({pixels / 1e6:.0f} million, {kind or 'unknown'} "
            f"{picture.mode}): scale it down"
        )


def _coefficients(picture: Any, pixels: int) -> int:
    """Bytes of the coefficients that a JPEG of several scans keeps at full size, 2 for each."""
    layers = getattr(picture, "layer", [])  # of each component its number, and how densely it is sampled
    if not layers or not picture.info.get("progressive"):
        return 0
    densest = max(across for _, across, _, _ in layers) * max(down for _, _, down, _ in layers)
    return sum(2 * pixels * across * down // densest for _, across, down, _ in layers)


# Values ---------------------------------------------------------------------------------------------------


def _eight_bits(tile: Image.Image) -> Image.Image:
    """Of mode L or RGB."""
    if tile.mode.startswith("I"):
        return Image.fromarray(_sixteen_bits(np.asarray(tile), tile.info.get("transparency")))
    if tile.mode == "F":
        return Image.fromarray(_unit_floats(np.asarray(tile)))
    if not tile.has_transparency_data:
        return tile.convert("L" if tile.mode in ("1", "L") else "RGB")
    return Image.fromarray(over_white(np.asarray(tile.convert("RGBA"))))


def over_white(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] laid over white, rounded to nearest: uint8 [H, W, 3]."""
    alpha = image[..., 3:].astype(np.uint16)
    return ((image[..., :3] * alpha + (255 - alpha) * 255 + 127) // 255).astype(np.uint8)


def _sixteen_bits(levels: np.ndarray, clear: Any) -> np.ndarray:
    """`clear`: the level that is transparent, if any."""
    if levels.dtype.itemsize > 2 and (levels.min() < 0 or levels.max() > 65535):
        found = f"{levels.min()} to {levels.max()}"
        raise ValueError(f"a 32-bit integer image must lie in 0 to 65535, got {found}: convert it to 8 bits")
    rounded = high_byte(levels)
    if isinstance(clear, int):
        rounded[levels == clear] = 255
    return rounded


def high_byte(levels: np.ndarray) -> np.ndarray:
    """0..65535 -> uint8, divided by 257 and rounded to nearest (exact, tried for each of them)."""
    return ((levels.astype(np.uint32) * 255 + 32895) >> 16).astype(np.uint8)


def _unit_floats(levels: np.ndarray) -> np.ndarray:
    if not np.isfinite(levels).all():
        raise ValueError("a floating-point image must be finite")
    if levels.min() < -1e-3 or levels.max() > 1 + 1e-3:
        found = f"{levels.min():.4g} to {levels.max():.4g}"
        raise ValueError(f"a floating-point image must lie in 0 to 1, got {found}: rescale it")
    return np.rint(levels.clip(0, 1) * 255).astype(np.uint8)


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """An array [H, W, ...] as the orientation 1..8 of EXIF says it is to be seen."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    vertical, horizontal = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return image[:: -1 if vertical else 1, :: -1 if horizontal else 1]
