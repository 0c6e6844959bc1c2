"""The README's figures, from reports in JSON; what no report has is "not measured yet"."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OWN, OUTSIDE = Path("evaluation/report.json"), Path("evaluation/ood/report.json")  # below docs/
MISSING = "not measured yet"
WORLD = ("suites", "world", "numbers", "by_step")
QUESTIONS = ("suites", "questions", "numbers")
EDITS = ("suites", "editing", "numbers")
MAZES = ("suites", "mazes", "numbers")
APART = ("suites", "ood", "numbers", "by_kind")  # in a report of its own, or in that of all suites


@dataclass(frozen=True, kw_only=True)
class Row:
    """A figure of the project's own test split, the kind of request of the out-of-distribution suite beside
    it ("": there is none), and a control: keys into the report, and what was done."""

    what: str
    own: tuple[Any, ...]
    outside: str = ""
    control: tuple[Any, ...] = ()
    without: str = ""


ROWS = (
    Row(
        what="questions about a picture",
        own=(*QUESTIONS, "all"),
        outside="questions",
        control=(*QUESTIONS, "blind"),
        without="the picture removed",
    ),
    Row(
        what="drawings of two objects, every attribute right",
        own=("suites", "drawing", "numbers", "complete_by_number", "2", "all"),
        outside="drawings, 2 objects",
    ),
    Row(
        what="edits, done and the rest unchanged",
        own=(*EDITS, "all", "both"),
        outside="edits",
        control=(*EDITS, "left_as_it_was", "both"),
        without="the picture left as it was",
    ),
    Row(
        what="mazes of 5 x 5, with sketches",
        own=(*MAZES, "with sketches", "5x5", "success"),
        outside="mazes up to 5x5",
        control=(*MAZES, "words alone", "5x5", "success"),
        without="no sketch",
    ),
    Row(
        what="the next frame, PSNR",
        own=(*WORLD, "imagined", "psnr", 0),
        control=(*WORLD, "last frame blurred", "psnr", 0),
        without="a blurred copy",
    ),
)


def table(docs: Path) -> list[str]:
    """Lines of Markdown from the reports below `docs`."""
    own = read(docs / OWN)
    outside = read(docs / OUTSIDE) or own
    lines = [
        "| | own wording and renderer | other wording, other renderer | control |",
        "|---|---|---|---|",
    ]
    for row in ROWS:
        apart = figure(found(outside, (*APART, row.outside))) if row.outside else "-"
        control = f"{figure(found(own, row.control))} ({row.without})" if row.control else "-"
        lines.append(f"| {row.what} | {figure(found(own, row.own))} | {apart} | {control} |")
    return lines


def read(path: Path) -> Mapping[str, Any]:
    """A report, or an empty one where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def found(report: Any, keys: tuple[Any, ...]) -> float | None:
    """The value under these keys, an estimate's `value` included; None where a key is missing."""
    for key in keys:
        if not (key in report if isinstance(report, dict) else isinstance(report, list)):
            return None
        report = report[key]
    return report["value"] if isinstance(report, dict) else report


def figure(value: float | None) -> str:
    """A share in percent; what is above 1 is in decibels."""
    if value is None:
        return MISSING
    return f"{100 * value:.1f} %" if value <= 1 else f"{value:.1f} dB"
