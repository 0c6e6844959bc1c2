"""`make bench AGAINST=PATH`: the bench of this checkout beside that of another one, in one run.

Each measurement is a process of its own, alternately of the other checkout and of this one, so that drift of
the machine meets both. The fastest time and the least peak memory of a checkout's processes count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unified.eval.bench.rows import Measurement, Reader, Result, Row

LIMIT = 1.05  # a ratio above this is marked
MEASURED = Path(__file__).with_name("measured.py")


@dataclass(frozen=True)
class Checkout:
    """A checkout of the project; `root` is its folder with `pyproject.toml`."""

    root: Path

    @staticmethod
    def at(path: str | Path) -> Checkout:
        """ValueError where no checkout with benchmarks lies."""
        root = Path(path).resolve()
        for part in ("pyproject.toml", "unified/__init__.py", "eval/bench/images.py"):
            if not (root / part).is_file():
                raise ValueError(
                    f"{path} is no checkout of this project (it has no {part}): give the root of one, "
                    "such as a git worktree of the older commit"
                )
        return Checkout(root)

    def has(self, module: str) -> bool:
        return (self.root / "eval" / "bench" / f"{module}.py").is_file()

    def commit(self) -> str:
        """Its commit, with `+` where files differ from it; "unknown" outside git."""
        command = ["git", "-C", str(self.root), "describe", "--always", "--dirty=+", "--exclude=*"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        return result.stdout.strip() or "unknown"

    def fields(self) -> set[str]:
        """The fields of its `Case`; also shows that its own code is what a process here imports."""
        return set(self._process(["fields"], {})["fields"])

    def run(self, measurement: Measurement) -> Result:
        """The measurement with this checkout's code. RuntimeError in one line where it fails."""
        module = f"unified.eval.bench.{measurement.module}"
        return self._process([module, *measurement.arguments], measurement.environment)

    def _process(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Result:
        path = os.pathsep.join(filter(None, [str(self.root), os.environ.get("PYTHONPATH")]))
        result = subprocess.run(
            [sys.executable, "-P", str(MEASURED), str(self.root), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": path, **environment},
        )
        if result.returncode:
            reason = (result.stderr.strip() or f"exit status {result.returncode}").splitlines()[-1]
            raise RuntimeError(f"{' '.join(arguments)} failed in {self.root}: {reason}")
        return json.loads(result.stdout.strip().splitlines()[-1])


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A row in both checkouts: seconds and MB, None where not measured. `note` says why not. `yardstick`: as
    of `Row`."""

    name: str
    yardstick: bool = False
    old_seconds: float | None = None
    new_seconds: float | None = None
    old_mb: float | None = None
    new_mb: float | None = None
    note: str = ""

    @property
    def time_ratio(self) -> float | None:
        return _ratio(self.new_seconds, self.old_seconds)

    @property
    def memory_ratio(self) -> float | None:
        return _ratio(self.new_mb, self.old_mb)

    @property
    def marks(self) -> list[str]:
        """What lies above the limit, with its ratio."""
        named = (("time", self.time_ratio), ("memory", self.memory_ratio))
        return [f"{what} {ratio:.2f}" for what, ratio in named if ratio is not None and ratio > LIMIT]


@dataclass
class _Runs:
    """The results of one checkout."""

    checkout: Checkout
    results: list[Result] = field(default_factory=list)
    note: str = ""

    def add(self, measurement: Measurement) -> None:
        if self.note:
            return
        if not self.checkout.has(measurement.module):
            self.note = f"not in {self.checkout.root}"
            return
        try:
            self.results.append(self.checkout.run(measurement))
        except RuntimeError as error:
            self.note = str(error)

    def least(self, reader: Reader | None) -> float | None:
        """None where the row has no such number, or the checkout's bench does not print it."""
        if reader is None:
            return None
        try:
            return min((reader(result) for result in self.results), default=None)
        except KeyError:
            return None


def compare(
    measurements: Sequence[Measurement], new: Checkout, old: Checkout, rounds: int
) -> Iterator[Compared]:
    """The rows, as they are measured: `rounds` processes of each checkout, old, new, old, new, ..."""
    for measurement in measurements:
        before, now = _Runs(old), _Runs(new)
        for _ in range(rounds):
            before.add(measurement)
            if not before.note:  # nothing to compare with: not measured
                now.add(measurement)
        for row in measurement.rows:
            yield _compared(row, before, now)


def _compared(row: Row, before: _Runs, now: _Runs) -> Compared:
    return Compared(
        name=f"{row.name} (yardstick)" if row.yardstick else row.name,
        yardstick=row.yardstick,
        old_seconds=before.least(row.seconds),
        new_seconds=now.least(row.seconds),
        old_mb=before.least(row.megabytes),
        new_mb=now.least(row.megabytes),
        note="; ".join(filter(None, [before.note, now.note])),
    )


def _ratio(new: float | None, old: float | None) -> float | None:
    return new / old if new is not None and old else None


HEADER = (
    f"| {'row':42} | {'old ms':>9} | {'new ms':>9} | ratio | {'old MB':>6} | {'new MB':>6} | ratio | mark |\n"
    f"|:{'-' * 43}|{'-' * 10}:|{'-' * 10}:|------:|{'-' * 7}:|{'-' * 7}:|------:|------|"
)


def line(row: Compared) -> str:
    """One row of the table, which is Markdown and lines up as plain text."""
    times = [_cell(value and 1000 * value, 9, 2) for value in (row.old_seconds, row.new_seconds)]
    sizes = [_cell(value, 6, 0) for value in (row.old_mb, row.new_mb)]
    cells = [*times, _cell(row.time_ratio, 5, 2), *sizes, _cell(row.memory_ratio, 5, 2)]
    mark = "ABOVE: " + ", ".join(row.marks) if row.marks else row.note
    return f"| {row.name:42} | {' | '.join(cells)} | {mark} |"


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"


def summary(rows: Sequence[Compared]) -> str:
    """How many rows lie above the limit, which, and how many could not be compared."""
    above = [f"{row.name} ({', '.join(row.marks)})" for row in rows if row.marks]
    alone = [row.name for row in rows if row.time_ratio is None and row.memory_ratio is None]
    words = f"{len(above) or 'none'} of {len(rows) - len(alone)} rows more than 5 % slower or larger"
    words += f": {', '.join(above)}" if above else ""
    if any(row.marks for row in rows if row.yardstick):
        words += "; a yardstick moved too: other programs were running, measure again"
    return words + (f"; {len(alone)} without a comparison: {', '.join(alone)}" if alone else "")


def as_json(row: Compared) -> dict[str, Any]:
    return {**asdict(row), "time_ratio": row.time_ratio, "memory_ratio": row.memory_ratio, "above": row.marks}
