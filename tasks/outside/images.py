"""Image files as uint8 arrays, with faults that say which file is bad and how."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps
from unified.tokenizers.picture_files import open_picture

if TYPE_CHECKING:
    from unified.tasks.outside.sources import Source

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


FOREIGN = ("Thumbs.db", "desktop.ini", "__MACOSX")  # what other systems leave in folders


def is_foreign(path: Path) -> bool:
    """Whether a path below a folder is none of its data: hidden files such as `._a.png` and `.DS_Store`."""
    return any(part.startswith(".") or part in FOREIGN for part in path.parts)


def find_image(folder: Path, name: str) -> Path:
    """The file of this name inside a folder; a name written on Windows may have backslashes. Raises
    ValueError if there is none or the name leaves the folder."""
    path = folder / name
    if "\\" in name and "\0" not in name and not path.is_file():
        path = folder / name.replace("\\", "/")
    if "\0" in name:
        raise ValueError(f"no file can be called {name!r:.60}")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the image {name!r} lies outside {folder}")
    if not path.is_file():
        raise ValueError(f"no such image {name!r} in {folder}")
    return path


def read_image(path: Source, size: int | None = None) -> np.ndarray:
    """A file, or the bytes of one, as uint8 [H, W, 3], as `open_picture` reads it; with a `size`, the middle
    square at that side. Raises ValueError for a missing, damaged or cut-off file, or one that is too
    large."""
    try:
        image = open_picture(path if isinstance(path, Path) else path.read_bytes()).image
    except ValueError as error:
        reason = str(error).removeprefix(f"{path}: ").removeprefix("the picture: ")
        if reason == "no such file":
            raise ValueError(f"no such image {path.name!r}") from None
        raise ValueError(f"cannot read image {path.name!r}: {reason}") from None
    if size is None:
        return image
    return np.asarray(ImageOps.fit(Image.fromarray(image), (size, size), Image.Resampling.LANCZOS))


def check_size(size: int | None) -> None:
    if size is not None and (type(size) is not int or not 8 <= size <= 4096):
        raise ValueError(f"size must be a side of 8 to 4096 pixels or none, got {size!r}")
