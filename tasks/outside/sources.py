"""Where the image of a record is: a file beside the data, or bytes inside the record, in any of the spellings
of `tokenizers.picture_sources`. Nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified.tasks.outside.images import find_image
from unified.tasks.outside.numbered import expect_text
from unified.tokenizers.picture_sources import named_or_held


@dataclass(frozen=True)
class Embedded:
    """The bytes of an image file that came inside a record; used as a `Path` is."""

    data: bytes
    name: str

    def read_bytes(self) -> bytes:
        return self.data


Source = Path | Embedded


def read_source(value: Any, folder: Path, name: str) -> Source:
    """One image, as a file in the folder or as bytes. ValueError for anything else."""
    try:
        found = named_or_held(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if isinstance(found, bytes):
        return Embedded(found, "the image inside the record")
    if not isinstance(found, str):
        raise ValueError(f"{name} must be the name of an image file or a list of names, got {value!r:.60}")
    return find_image(folder, expect_text(found, name))


def read_sources(value: Any, folder: Path, name: str) -> list[Source]:
    """The images of a record: one, a list of them, or none."""
    items = value if isinstance(value, list) else [] if value in (None, "") else [value]
    return [read_source(item, folder, name) for item in items]
