"""Tables of `docs/figures.md`: every goal of the evaluation, and what `make bench` measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unified.eval.measurement import Goal
from unified.eval.media.figures import OWN, read
from unified.eval.report import goal_lines

BENCH = Path("bench.json")  # below docs/
METHODS = {
    "published": "VAR, the published way",
    "var": "VAR through a session",
    "own": "our model, same depth and width",
}
VERBS = {
    "first_token": ("first token", "{:.3f} s"),
    "image_with_guidance": ("image with guidance", "{:.2f} s"),
    "imagined_frames": ("imagined frames", "{:.1f} frames/s"),
    "start_to_first_answer": ("start to first answer", "{:.2f} s"),
}


def goals(docs: Path) -> list[str]:
    """All goals of the report on the own test split, reached or missed."""
    suites = read(docs / OWN).get("suites", {})
    names = ("what", "value", "bound", "unit", "most")
    return goal_lines(
        [Goal(**{name: goal[name] for name in names}) for suite in suites.values() for goal in suite["goals"]]
    )


def verbs(docs: Path) -> list[str]:
    """How fast the verbs of the shipped model are."""
    measured = read(docs / BENCH).get("verbs") or {}
    rows = [
        f"| {what} | {form.format(measured[name])} |"
        for name, (what, form) in VERBS.items()
        if name in measured
    ]
    return ["| the shipped model, two threads, bfloat16 | |", "|---|---|", *rows]


def generation(docs: Path) -> list[str]:
    """Seconds and memory of images of 256 x 256, beside the published way."""
    header = "| generation (two threads) | batch | transformer | with decoder | peak memory |"
    rows = [_row(row) for row in read(docs / BENCH).get("images", [])]
    return [header, "|---|---|---|---|---|", *rows]


def _row(row: dict[str, Any]) -> str:
    method, seconds = f"{METHODS[row['method']]}, {row['dtype']}", row["transformer_seconds"]
    whole = seconds + row["decoder_seconds"]
    return (
        f"| {method} | {row['batch']} | {seconds:.2f} s ({row['times_as_fast']:.2f} x) | "
        f"{whole:.2f} s ({row['times_as_fast_decoded']:.2f} x) | "
        f"{row['peak_mb']:.0f} MB ({row['memory_ratio']:.2f}) |"
    )
