"""Records of JSON and JSONL files with the line on which each begins."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from unified.tasks.outside.faults import Faults

from unified.text_files import (
    at_home,
    check_depth,
    check_unicode,
    decoded,
    decoder,
    parse_json,
    read_bytes,
    read_lines,
    skip_value,
)

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
    return decoded(read_bytes(path), path.name)


def read_numbered(path: str | Path, faults: Faults) -> Iterator[Numbered]:
    """The records of a file: one object a line (`.jsonl`), or one array of objects (`.json`).

    Raises ValueError, in one line, if the file cannot be read, is empty, or is not such an array; a bad
    record is a fault of its own, the rest goes on."""
    path = Path(path)
    if path.suffix.lower() == ".jsonl":
        lines = read_lines(path)
        if not lines:
            raise ValueError(f"{path.name}: the file is empty")
        yield from _lines(path, lines, faults)
        return
    text = read_text(path)
    if not text.strip():
        raise ValueError(f"{path.name}: the file is empty")
    if _holds_lines(text):
        yield from _lines(path, text.encode().split(b"\n"), faults)
    else:
        yield from _array(path, text, faults)


def expect_object(
    value: Any, needed: tuple[str, ...], optional: tuple[str, ...], faults: Faults
) -> dict[str, Any]:
    """The keys of an object that are known and not null. Others are noted in `faults`; ValueError names the
    first that is missing."""
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {type(value).__name__}")
    known = (*needed, *optional)
    faults.note_unknown(key for key, part in value.items() if key not in known and part is not None)
    record = {key: value[key] for key in known if value.get(key) is not None}
    for key in needed:
        if key not in record:
            raise ValueError(f"the key {key!r} is missing" if key not in value else f"{key!r} is null")
    return record


def expect_text(value: Any, name: str) -> str:
    """A string with something in it that is valid Unicode."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a text, got {value!r:.60}")
    check_unicode(value)
    return value


def _holds_lines(text: str) -> bool:
    """Whether a `.json` holds one object a line, as data sets on the hub do."""
    first, _, rest = text.strip().partition("\n")
    if not first.startswith("{") or not rest.strip():
        return False
    try:
        return isinstance(parse_json(first), dict)
    except ValueError:
        return False


def _lines(path: Path, lines: list[bytes], faults: Faults) -> Iterator[Numbered]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        with faults.at(f"{path.name}:{number}"):
            value = parse_json(line)
            yield Numbered(path, number, value)


def _array(path: Path, text: str, faults: Faults) -> Iterator[Numbered]:
    """The items of the array, read one by one; after a bad one its brackets say where the next begins."""
    place, line, counted = _skip(text, 0), 1, 0
    if text[place] != "[":
        raise ValueError(f"{path.name}: expected a list of records ([...]), or one record a line in a .jsonl")
    place = _skip(text, place + 1)
    while text[place : place + 1] != "]":
        line, counted = line + text.count("\n", counted, place), place
        value, place, fault = _item(text, place)
        if fault is None:
            yield Numbered(path, line, value)
        place = _skip(text, place)
        ended = text[place : place + 1]
        if fault is None and ended not in (",", "]"):
            after = text.count("\n", 0, place) + 1
            fault = _Fault("not JSON: expected ',' or ']' after a record", after)
        if fault is not None:
            with faults.at(f"{path.name}:{fault.line or line}"):
                raise ValueError(fault.reason)
        if not ended:
            return
        place = _skip(text, place + (ended == ","))


@dataclass(frozen=True)
class _Fault:
    reason: str
    line: int | None = None


def _item(text: str, place: int) -> tuple[Any, int, _Fault | None]:
    """The value that begins at a place, where it ends, and what is wrong with it."""
    found: list[str] = []
    try:
        value, end = decoder(found).raw_decode(text, place)
        check_depth(text[place:end])
    except json.JSONDecodeError as error:
        return None, _next(text, place), _Fault(f"not JSON: {error.msg}", error.lineno)
    except (ValueError, RecursionError):
        end, deepest = skip_value(text, place)
        return None, end, _Fault(f"nested {deepest} levels deep")
    return value, end, _Fault(found[0]) if found else None


def _next(text: str, place: int) -> int:
    """Where a malformed item ends."""
    if text[place : place + 1] in ("{", "["):
        return skip_value(text, place)[0]
    stops = [stop for stop in (text.find(mark, place) for mark in ",]") if stop >= 0]
    return max(min(stops, default=len(text)), place + (text[place : place + 1] not in (",", "]", "")))


def _skip(text: str, place: int) -> int:
    """The next place that is not blank."""
    while place < len(text) and text[place] in _BLANK:
        place += 1
    return place


def read_built(
    path: str | Path,
    images: str | Path | None,
    faults: Faults | None,
    build: Callable[[Any, Path, str, Faults], Built],
) -> Iterator[Built]:
    """What `build(value, folder of the images, place, faults)` makes of each record; `images` is that folder,
    by default the file's. Raises ValueError, in one line, for a file without any and, unless `faults` skips,
    for the first bad one."""
    path, faults = at_home(path), faults or Faults()
    faults.source = path.name
    folder = at_home(images) if images is not None else path.parent
    found = 0
    for record in read_numbered(path, faults):
        with faults.at(record.where):
            built = build(record.value, folder, record.where, faults)
            found += 1
            yield built
    if not found and not faults.lines:
        raise ValueError(f"{path.name}: the list is empty")
    faults.warn()
