"""Reads outside data to the end, images included, to find every fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unified.tasks.outside.captions import read_captions
from unified.tasks.outside.faults import Faults
from unified.tasks.outside.llava import read_llava
from unified.tasks.outside.preference import read_preferences


def read_all(kind: str, path: Path, images: Path | None, faults: Faults) -> int:
    """Loads every record of "captions", "llava" or "preference" data; returns how many are good."""
    good = 0
    for record in _records(kind, path, images, faults):
        try:
            record.image() if kind == "captions" else record.messages()
        except ValueError as error:
            faults.lines.append(str(error))
        else:
            good += 1
    return good


def _records(kind: str, path: Path, images: Path | None, faults: Faults) -> Iterator[Any]:
    if kind == "captions":
        if images is not None:
            raise ValueError("captions lie in the folder of their images: leave --images out")
        return read_captions(path, faults)
    return (read_llava if kind == "llava" else read_preferences)(path, images, faults)
