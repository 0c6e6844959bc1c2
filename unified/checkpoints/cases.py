"""`cases.json` of a golden folder: inputs and results that are no tensors (texts, lists, yes and no)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from unified.checkpoints.check import Check
from unified.text_files import content_of, read_object


def read_cases(folder: Path) -> dict[str, Any]:
    """ValueError (one line) if cases.json is missing or no JSON object."""
    return read_object(Path(folder) / "cases.json")


def checked(folder: Path, checks: Callable[[Path], Iterable[Check]]) -> Iterator[Check]:
    """The checks of a folder; whatever its files lead to is a ValueError of one line that names it."""
    with content_of(folder):
        found = list(checks(folder))
    yield from found


def same(name: str, got: Any, want: Any, *, atol: float = 0.0) -> Check:
    """Plain data that must be equal: numbers within `atol`, everything else exactly. Lists of the same length
    are counted item by item."""
    if isinstance(got, list) and isinstance(want, list) and len(got) == len(want):
        wrong = [number for number, pair in enumerate(zip(got, want, strict=True)) if not _equal(*pair, atol)]
        first = f", first number {wrong[0]}" if wrong else ""
        return Check(name, not wrong, f"{len(wrong)} of {len(want)} differ{first} ({_kind(atol)})")
    return Check(name, _equal(got, want, atol), f"one value ({_kind(atol)})")


def _kind(atol: float) -> str:
    return f"atol {atol:g}" if atol else "exact"


def _equal(got: Any, want: Any, atol: float) -> bool:
    if isinstance(got, bool) or isinstance(want, bool):
        return got is want
    if isinstance(got, int | float) and isinstance(want, int | float):
        return math.isclose(got, want, rel_tol=0.0, abs_tol=atol)
    if isinstance(got, dict) and isinstance(want, dict):
        return got.keys() == want.keys() and all(_equal(got[key], want[key], atol) for key in want)
    if isinstance(got, list | tuple) and isinstance(want, list | tuple):
        return len(got) == len(want) and all(_equal(*pair, atol) for pair in zip(got, want, strict=True))
    return bool(got == want)
