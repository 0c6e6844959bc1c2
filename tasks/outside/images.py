"""Image files as uint8 arrays, with faults that say which file is bad and how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from unified.tokenizers.picture_files import open_picture

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


def read_image(path: Path, size: int | None = None) -> np.ndarray:
    """uint8 [H, W, 3] as `open_picture` reads it; with a `size`, the middle square at that side. Raises
    ValueError for a missing, damaged or cut-off file, or one that is too large."""
    try:
        image = open_picture(path).image
    except ValueError as error:
        reason = str(error).removeprefix(f"{path}: ")
        if reason == "no such file":
            raise ValueError(f"no such image {path.name!r}") from None
        raise ValueError(f"cannot read image {path.name!r}: {reason}") from None
    if size is None:
        return image
    return np.asarray(ImageOps.fit(Image.fromarray(image), (size, size), Image.Resampling.LANCZOS))


def check_size(size: int | None) -> None:
    if size is not None and (type(size) is not int or not 8 <= size <= 4096):
        raise ValueError(f"size must be a side of 8 to 4096 pixels or none, got {size!r}")
