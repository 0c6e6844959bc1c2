"""Text and JSON that others wrote: the one place where such files are read.

A byte order mark and CRLF are taken as they come (files saved by Windows editors). Whatever cannot be read
raises ValueError in one line: no such file, no permission, bytes that are not UTF-8, and what Python's parser
would let through or fail on in other ways: NaN and Infinity (RFC 8259, section 6), numbers that no float64
holds, nesting without end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEEPEST = 100  # levels of nesting
LONGEST_NUMBER = 300  # digits of a whole number; a float64 ends near 1.8e308
MARK = "\ufeff"  # the byte order mark
LFS_POINTER = "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"
WEB_PAGE = "a web page, not the file itself: download that"
_PLACE = re.compile(r"^not JSON: .*\((?:line (\d+), )?column \d+\)$")
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


def at_home(path: str | Path) -> Path:
    """A path with `~` as the home folder; `~name` of nobody stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file without its byte order mark."""
    return decoded(read_bytes(path), str(path))


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    if is_lfs_pointer(content):
        raise ValueError(f"{path}: {LFS_POINTER}")
    return content


def is_lfs_pointer(content: bytes) -> bool:
    """Whether a file begins as what Git puts in the place of a large one."""
    return content.startswith(b"version https://git-lfs")


def is_web_page(content: bytes) -> bool:
    """Whether a file begins as a page that a server gives out in place of a file."""
    head = content[:256].removeprefix(MARK.encode()).lstrip().lower()
    return head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))


def decoded(content: bytes, name: str) -> str:
    """UTF-8 bytes as text without a byte order mark; ValueError names the first bad byte."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{name}: not UTF-8 text but UTF-16: save it as UTF-8")
    try:
        return content.decode("utf-8").removeprefix(MARK)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8 text: {error.reason} at byte {error.start}") from None


def read_lines(path: str | Path) -> list[bytes]:
    """The lines of a file, still undecoded, so that a bad byte costs its own line alone; blank ones at the
    end are left out."""
    content = read_bytes(path)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        decoded(content, str(path))
    lines = content.removeprefix(MARK.encode()).split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def parse_json(text: str | bytes) -> Any:
    """The value of one JSON text. ValueError begins with "not JSON" where that is what is wrong."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 text: {error.reason} at byte {error.start}") from None
    faults: list[str] = []
    try:
        check_depth(text)
        value = decoder(faults).decode(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"not JSON: {error.msg} ({line}column {error.colno})") from None
    if faults:
        raise ValueError(faults[0])
    return value


def read_json(path: str | Path) -> Any:
    """The value in a JSON file of settings, whose texts are valid Unicode."""
    content = read_bytes(path)
    if is_web_page(content):
        raise ValueError(f"{path}: {WEB_PAGE}")
    try:
        value = parse_json(decoded(content, str(path)))
        check_unicode(value)
    except ValueError as error:
        said = str(error)
        place = _PLACE.search(said)
        where = f"{path}:{place[1] or 1}" if place else str(path)
        raise ValueError(said if str(path) in said else f"{where}: {said}") from None
    return value


def read_object(path: str | Path) -> dict[str, Any]:
    """The same for a file that holds an object."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected an object, found {type(value).__name__}")
    return value


@contextmanager
def content_of(path: str | Path) -> Iterator[None]:
    """Around what is built from the content of a file: whatever it raises becomes a ValueError that names the
    file, in one line, with the first error as its cause."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        text = (str(error).strip().splitlines() or [""])[0][:200]
        if isinstance(error, KeyError):
            text = f"{text} is missing"
        elif isinstance(error, OSError):
            text = error.strerror or text
        elif (type(error) is not Exception and not isinstance(error, ValueError)) or not text:
            text = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def check_unicode(value: Any) -> None:
    """ValueError if a text anywhere in plain data holds what cannot be written as UTF-8."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(value[error.start]):04x}"
            raise ValueError(f"not valid Unicode: a text holds {half}, half of a surrogate pair") from None
    elif isinstance(value, dict):
        for key, part in value.items():
            check_unicode(key)
            check_unicode(part)
    elif isinstance(value, list | tuple):
        for part in value:
            check_unicode(part)


def decoder(faults: list[str]) -> json.JSONDecoder:
    """A decoder that reads on past a number that JSON or a float64 does not have and notes it in `faults`."""

    def constant(name: str) -> float:
        faults.append(f"{name} is not a number that JSON has")
        return 0.0

    def whole(digits: str) -> int:
        if len(digits) <= LONGEST_NUMBER:
            return int(digits)
        faults.append(f"a number of {len(digits.lstrip('-'))} digits is too large")
        return 0

    def fraction(digits: str) -> float:
        number = float(digits)
        if number in (float("inf"), float("-inf")):
            faults.append(f"the number {digits[:30]} is too large")
        return number

    return json.JSONDecoder(parse_constant=constant, parse_int=whole, parse_float=fraction)


def check_depth(text: str) -> None:
    """ValueError for a value that is nested without end."""
    if text.count("[") + text.count("{") > DEEPEST and skip_value(text, 0)[1] > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} levels deep")


def skip_value(text: str, place: int) -> tuple[int, int]:
    """Where the first bracketed value from `place` on ends, by its brackets alone, or the end of the text
    where it does not, and how deeply it is nested."""
    level = deepest = 0
    for match in _TOKENS.finditer(text, place):
        token = match[0]
        if token in "[{":
            level += 1
            deepest = max(deepest, level)
        elif token in "]}":
            level -= 1
            if level <= 0:
                return match.end(), deepest
    return len(text), deepest
