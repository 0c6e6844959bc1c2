"""Records of JSON and JSONL files with the line on which each begins."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from unified.tasks.outside.faults import Faults

Built = TypeVar("Built")
_BLANK = " \t\r\n"


@dataclass(frozen=True)
class Numbered:
    """A record and where it stands."""

    path: Path
    line: int
    value: Any

    @property
    def where(self) -> str:
        return f"{self.path.name}:{self.line}"


def read_text(path: Path) -> str:
    """The text of a file. Raises ValueError that names it if it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: not UTF-8 text: {error.reason} at byte {error.start}") from None


def read_numbered(path: str | Path, faults: Faults) -> Iterator[Numbered]:
    """The records of a file: one object a line (`.jsonl`), or one array of objects (`.json`).

    Raises ValueError, in one line, if the file cannot be read, is empty, or is not such an array; a bad line
    of a `.jsonl` is a fault of its own, the rest goes on."""
    path = Path(path)
    text = read_text(path)
    if not text.strip():
        raise ValueError(f"{path.name}: the file is empty")
    if path.suffix == ".jsonl":
        yield from _lines(path, text, faults)
    else:
        yield from _array(path, text)


def expect_object(value: Any, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """The value if it is an object with these keys and no others; ValueError names the first that is
    wrong."""
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {type(value).__name__}")
    for key in needed:
        if key not in value:
            raise ValueError(f"the key {key!r} is missing")
    for key in value:
        if key not in (*needed, *optional):
            raise ValueError(f"unknown key {key!r}: known are {', '.join((*needed, *optional))}")
    return value


def expect_text(value: Any, name: str) -> str:
    """A string with something in it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a text, got {value!r:.60}")
    return value


def _lines(path: Path, text: str, faults: Faults) -> Iterator[Numbered]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        value: Any = None
        with faults.at(f"{path.name}:{number}"):
            value = _parse(line)
            yield Numbered(path, number, value)


def _parse(line: str) -> Any:
    try:
        return json.loads(line, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} (column {error.colno})") from None


def _array(path: Path, text: str) -> Iterator[Numbered]:
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    place, line, counted = _skip(text, 0), 1, 0
    if text[place] != "[":
        raise ValueError(f"{path.name}: expected a list of records ([...]), or one record a line in a .jsonl")
    place = _skip(text, place + 1)
    while text[place : place + 1] != "]":
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path.name}:{error.lineno}: not JSON: {error.msg}") from None
        except ValueError as error:
            raise ValueError(f"{path.name}:{line}: {error}") from None
        yield Numbered(path, line, value)
        place = _skip(text, place)
        if text[place : place + 1] == ",":
            place = _skip(text, place + 1)
        elif text[place : place + 1] != "]":
            end = text.count("\n", 0, place) + 1
            raise ValueError(f"{path.name}:{end}: not JSON: expected ',' or ']' after a record")


def _skip(text: str, place: int) -> int:
    """The next place that is not blank."""
    while place < len(text) and text[place] in _BLANK:
        place += 1
    return place


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON has")


def read_built(
    path: str | Path,
    images: str | Path | None,
    faults: Faults | None,
    build: Callable[[Any, Path, str], Built],
) -> Iterator[Built]:
    """What `build(value, folder of the images, place)` makes of each record; `images` is that folder, by
    default the file's. Raises ValueError, in one line, for a file without any and, unless `faults` skips, for
    the first bad one."""
    path, faults = Path(path), faults or Faults()
    folder = Path(images) if images is not None else path.parent
    found = 0
    for record in read_numbered(path, faults):
        with faults.at(record.where):
            yield build(record.value, folder, record.where)
            found += 1
    if not found and not faults.lines:
        raise ValueError(f"{path.name}: the list is empty")
    faults.warn()
