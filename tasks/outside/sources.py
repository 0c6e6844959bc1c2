"""Where the image of a record is: a file beside the data, or bytes inside the record.

Taken are a file name, {"bytes": ...} as Hugging Face data sets have them, {"path": ...} or {"url": ...} as
chat messages have them, and the data URLs of OpenAI's `image_url` (RFC 2397, base64). Nothing is downloaded.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified.tasks.outside.images import find_image
from unified.tasks.outside.numbered import expect_text

LOCATIONS = ("image", "path", "url", "image_url")
"""Keys under which an image is given."""
_DATA_URL = re.compile(r"data:image/([\w.+-]+)(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


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
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        return Embedded(value["bytes"], str(value.get("path") or "bytes"))
    if isinstance(value, dict):
        given = next((key for key in LOCATIONS if value.get(key) is not None), None)
        if given is None:
            raise ValueError(f"{name}: give the image's file name under 'path'")
        return read_source(value[given], folder, name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be the name of an image file or a list of names, got {value!r:.60}")
    if value[:5].lower() == "data:":
        return _embedded(value, name)
    scheme = _SCHEME.match(value)
    if scheme and scheme[1].lower() == "file":
        value = value[len(scheme[0]) :]
    elif scheme:
        remedy = "store the image and name its file"
        raise ValueError(f"{name}: {value[:60]!r} is not downloaded: {remedy}")
    return find_image(folder, expect_text(value, name))


def read_sources(value: Any, folder: Path, name: str) -> list[Source]:
    """The images of a record: one, a list of them, or none."""
    items = value if isinstance(value, list) else [] if value in (None, "") else [value]
    return [read_source(item, folder, name) for item in items]


def _embedded(url: str, name: str) -> Embedded:
    head = _DATA_URL.match(url)
    if head is None:
        raise ValueError(f"{name}: a data URL must begin with data:image/...;base64, got {url[:40]!r}")
    try:
        return Embedded(base64.b64decode(url[head.end() :], validate=True), f"{head[1]} in a data URL")
    except (binascii.Error, ValueError):
        raise ValueError(f"{name}: the data URL does not hold valid base64") from None
