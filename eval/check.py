"""One property that a part of one's own must have, and whether it holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One property of a part."""

    part: str
    what: str
    ok: bool
    measured: str = ""

    def __str__(self) -> str:
        state, found = "ok  " if self.ok else "FAIL", f": {self.measured}" if self.measured else ""
        return f"{state} {self.part}: {self.what}{found}"
