"""A folder of images with captions, in any of three layouts.

`metadata.jsonl` with {"file_name": "a.png", "text": "..."} a line, or `metadata.csv` with these two columns,
as in Hugging Face's `imagefolder`; else every image has a text of the same name (`a.png`, `a.txt`). Folders
may be nested. `caption` is taken in place of `text`; other columns are left alone, with one warning.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from unified.tasks.outside.faults import Faults
from unified.tasks.outside.images import SUFFIXES, find_image, is_foreign, read_image
from unified.tasks.outside.numbered import expect_object, expect_text, read_numbered, read_text

from unified.text_files import at_home


@dataclass(frozen=True, kw_only=True)
class Caption:
    """An image file with its caption; `where` names the line that says so."""

    path: Path
    text: str
    where: str

    def image(self, size: int | None = None) -> np.ndarray:
        """See `images.read_image`; a fault names the line."""
        try:
            return read_image(self.path, size)
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from None


def read_captions(folder: str | Path, faults: Faults | None = None) -> Iterator[Caption]:
    """The captions of a folder; image files are looked for but not opened. Raises ValueError, in one line,
    for a folder without any and, unless `faults` skips, for the first bad one."""
    folder, faults = at_home(folder), faults or Faults()
    faults.source = folder.name
    if not folder.is_dir():
        raise ValueError(f"{folder}: not a folder")
    found = 0
    for caption in _records(folder, faults):
        found += 1
        yield caption
    if not found and not faults.lines:
        raise ValueError(f"{folder}: no image with a caption (metadata.jsonl, metadata.csv or NAME.txt)")
    faults.warn()


def _records(folder: Path, faults: Faults) -> Iterator[Caption]:
    files = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}
    if "metadata.jsonl" in files:
        yield from _from_jsonl(files["metadata.jsonl"], faults)
    elif "metadata.csv" in files:
        yield from _from_csv(files["metadata.csv"], faults)
    else:
        yield from _from_texts(folder, faults)


def _from_jsonl(path: Path, faults: Faults) -> Iterator[Caption]:
    for record in read_numbered(path, faults):
        with faults.at(record.where):
            caption = _caption(path.parent, record.value, record.where, faults)
            yield caption


def _from_csv(path: Path, faults: Faults) -> Iterator[Caption]:
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    names: list[str] | None = None
    while True:
        where, row = f"{path.name}:{rows.line_num + 1}", None
        try:
            row = next(rows, None)
        except csv.Error as error:
            if names is None:
                raise ValueError(f"{where}: not CSV: {error}") from None
            with faults.at(where):
                raise ValueError(f"not CSV: {error}") from None
            continue
        if row is None:
            return
        if names is None:
            names = [name.strip() for name in row]
        elif row:
            with faults.at(where):
                if len(row) != len(names):
                    raise ValueError(f"{len(row)} values for {len(names)} columns")
                caption = _caption(path.parent, dict(zip(names, row, strict=True)), where, faults)
                yield caption


def _caption(folder: Path, value: Any, where: str, faults: Faults) -> Caption:
    other = "caption" if isinstance(value, dict) and value.get("caption") is not None else "text"
    record = expect_object(value, ("file_name", other), ("id",), faults)
    name = expect_text(record["file_name"], "file_name")
    text = expect_text(record[other], other)
    return Caption(path=find_image(folder, name), text=text.strip(), where=where)


def _from_texts(folder: Path, faults: Faults) -> Iterator[Caption]:
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or is_foreign(below) or not path.is_file():
            continue
        where = str(below)
        with faults.at(where):
            text_path = path.with_suffix(".txt")
            if not text_path.is_file() and path.with_suffix(".TXT").is_file():
                text_path = path.with_suffix(".TXT")
            if not text_path.is_file():
                raise ValueError(f"no caption: {text_path.name} is missing")
            text = expect_text(read_text(text_path), text_path.name)
            yield Caption(path=path, text=text.strip(), where=where)
