"""Image files as uint8 arrays, with faults that say which file is bad and how."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def find_image(folder: Path, name: str) -> Path:
    """The file of this name inside a folder. Raises ValueError if there is none or the name leaves the
    folder."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the image {name!r} lies outside {folder}")
    if not path.is_file():
        raise ValueError(f"no such image {name!r} in {folder}")
    return path


def read_image(path: Path | IO[bytes], size: int | None = None) -> np.ndarray:
    """uint8 [H, W, 3] of a file: turned as its EXIF data say, transparency laid over white; with a `size`,
    the middle square at that side. Raises ValueError for a missing, damaged or cut-off file."""
    name = repr(path.name) if isinstance(path, Path) else "of the row"
    try:
        with Image.open(path) as opened:
            opened.load()
            image = _opaque(ImageOps.exif_transpose(opened))
    except FileNotFoundError:
        raise ValueError(f"no such image {name}") from None
    except Image.DecompressionBombError:
        raise ValueError(f"image {name} is too large to be read safely") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ValueError(f"cannot read image {name}: {_brief(error)}") from None
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def check_size(size: int | None) -> None:
    if size is not None and (type(size) is not int or not 8 <= size <= 4096):
        raise ValueError(f"size must be a side of 8 to 4096 pixels or none, got {size!r}")


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    whole = image.convert("RGBA")
    ground = Image.new("RGBA", whole.size, "white")
    return Image.alpha_composite(ground, whole).convert("RGB")


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return "not an image of a known kind" if "cannot identify" in text else text[:80]
