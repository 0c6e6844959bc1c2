"""Image files as uint8 arrays, with faults that say which file is bad and how."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from unified.tasks.outside.sources import Source

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


FOREIGN = ("Thumbs.db", "desktop.ini", "__MACOSX")  # what other systems leave in folders


def is_foreign(path: Path) -> bool:
    """Whether a path below a folder is none of its data: hidden files such as `._a.png` and `.DS_Store`."""
    return any(part.startswith(".") or part in FOREIGN for part in path.parts)


def find_image(folder: Path, name: str) -> Path:
    """The file of this name inside a folder. Raises ValueError if there is none or the name leaves the
    folder."""
    path = folder / name
    if "\0" in name:
        raise ValueError(f"no file can be called {name!r:.60}")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the image {name!r} lies outside {folder}")
    if not path.is_file():
        raise ValueError(f"no such image {name!r} in {folder}")
    return path


def read_image(path: Source, size: int | None = None) -> np.ndarray:
    """A file, or the bytes of one, as uint8 [H, W, 3]: turned as its EXIF data say, transparency laid over
    white; with a `size`, the middle square at that side. Raises ValueError for a missing, damaged or cut-off
    file."""
    try:
        with Image.open(path if isinstance(path, Path) else io.BytesIO(path.read_bytes())) as opened:
            opened.load()
            image = _opaque(ImageOps.exif_transpose(opened))
    except FileNotFoundError:
        raise ValueError(f"no such image {path.name!r}") from None
    except Image.DecompressionBombError:
        raise ValueError(f"image {path.name!r} is too large to be read safely") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ValueError(f"cannot read image {path.name!r}: {_brief(error)}") from None
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
