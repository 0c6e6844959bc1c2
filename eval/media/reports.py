"""The table of `docs/figures.md`: every goal of the evaluation."""

from __future__ import annotations

from pathlib import Path

from unified.eval.measurement import Goal
from unified.eval.media.figures import OWN, read
from unified.eval.report import goal_lines


def goals(docs: Path) -> list[str]:
    """All goals of the report on the own test split, reached or missed."""
    suites = read(docs / OWN).get("suites", {})
    names = ("what", "value", "bound", "unit", "most")
    return goal_lines(
        [Goal(**{name: goal[name] for name in names}) for suite in suites.values() for goal in suite["goals"]]
    )
