"""Tables and verdicts of the bench, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def rows_of(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A table, a line a row."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines]


def goal(value: float, bound: float, *, most: bool = False, unit: str = "") -> str:
    """The goal in brackets, and whether `value` reaches it. `most`: less is better."""
    reached = value <= bound if most else value >= bound
    words = "at most" if most else "at least"
    return f"(goal {words} {bound:g}{unit}: {'reached' if reached else 'MISSED'})"
