"""Sizes of images in requests."""

from __future__ import annotations

import re

from unified.server.errors import ApiError

SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})", re.ASCII)


def size_of(text: str | None, param: str) -> tuple[int, int] | None:
    """(height, width) in pixels of "WIDTHxHEIGHT"; None for "auto" or nothing. `ApiError` for anything
    else."""
    if text is None or text == "auto":
        return None
    found = SIZE.fullmatch(text)
    if found is None:
        raise ApiError(400, f"{param} is WIDTHxHEIGHT in pixels, or auto", param=param)
    return int(found[2]), int(found[1])
