"""Pictures of requests: limited in bytes and pixels before they are decoded, known by content, never fetched.

Only the bytes in the request are read. Whatever else stands in place of a picture, a path or an address, is
refused and not looked at.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings

import numpy as np
from PIL import Image

from unified.tokenizers.picture_files import to_pixels

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
DATA = re.compile(r"data:image/[\w.+-]{1,40}(;[\w=.+-]{1,60})*;base64,", re.ASCII)
DAMAGED = "the picture is damaged"
ONLY_DATA = "pictures are data URLs (data:image/png;base64,...): nothing is fetched and no file is opened"


def picture_of_url(url: str, most_pixels: int) -> np.ndarray:
    """uint8 [H, W, 3] of a data URL. ValueError, in one line, for anything else."""
    found = DATA.match(url[:200])
    if found is None:
        raise ValueError(ONLY_DATA)
    try:
        held = base64.b64decode(url[found.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the data URL is not valid base64") from None
    return picture_of_bytes(held, most_pixels)


def picture_of_bytes(held: bytes, most_pixels: int) -> np.ndarray:
    """uint8 [H, W, 3] of a file's content, transparency laid over white. ValueError, in one line, for what is
    no PNG, JPEG, WebP or GIF, or has more pixels."""
    picture = _opened(held, most_pixels)
    try:
        return to_pixels(picture)
    except ValueError:
        raise
    except Exception:
        raise ValueError(DAMAGED) from None


def mask_of_bytes(held: bytes, most_pixels: int) -> np.ndarray:
    """float32 [H, W]: 1 where the picture is to stay, 0 where the mask is transparent. ValueError for a mask
    without transparency, and as for pictures."""
    picture = _opened(held, most_pixels)
    if not picture.has_transparency_data:
        raise ValueError("the mask has no transparent places: these say where the picture is painted anew")
    alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    return (alpha > 127).astype(np.float32)


def _opened(held: bytes, most_pixels: int) -> Image.Image:
    """A decoded picture."""
    if b"<svg" in held[:1024].lower():
        raise ValueError("SVG is not read: send PNG, JPEG, WebP or GIF")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(held), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ValueError(f"the picture has more than {most_pixels} pixels: scale it down") from None
    except Exception:  # headers of spoilt files raise errors of a dozen types
        raise ValueError("not a PNG, JPEG, WebP or GIF picture") from None
    if picture.width * picture.height > most_pixels:
        size = f"{picture.width} x {picture.height}"
        raise ValueError(f"the picture has {size} pixels, more than {most_pixels} in all: scale it down")
    try:
        picture.load()
    except Exception:
        raise ValueError(DAMAGED) from None
    return picture


def png(image: np.ndarray) -> bytes:
    """uint8 [H, W, 3] as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def base64_png(image: np.ndarray) -> str:
    return base64.b64encode(png(image)).decode("ascii")


def data_url(image: np.ndarray) -> str:
    return f"data:image/png;base64,{base64_png(image)}"
