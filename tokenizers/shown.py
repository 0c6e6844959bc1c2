"""Values as messages of errors show them: one line, cut where it grows long."""

from __future__ import annotations

from typing import Any


def shown(value: Any, letters: int = 60) -> str:
    """The first `letters` letters of a value's `repr`, arrays in one line."""
    return " ".join(f"{value!r:.{letters}}".split())
