"""The parts of the bench: each a process that prints JSON, and the lines that its page has of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unified.eval.bench import (
    generation,
    growth,
    infinity,
    layout,
    mineworld,
    preference,
    serving,
    speculative,
    startup,
    text,
    training,
    verbs,
    voxel,
    worlds,
)

ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
Lines = Callable[[Any], list[str]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """`python -m unified.eval.bench.<name> --json`. `minutes`: on two cores, about. `shipped`: it needs the
    shipped weights."""

    title: str
    lines: Lines
    minutes: float
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    shipped: bool = False

    def measured(self, name: str) -> Any:
        """What the process prints last. RuntimeError in one line where it fails."""
        module = f"unified.eval.bench.{name}"
        found = subprocess.run(
            [sys.executable, "-m", module, "--json", *self.arguments],
            capture_output=True,
            text=True,
            env={**os.environ, **self.environment},
            check=False,
        )
        if found.returncode:
            reason = (found.stderr.strip() or f"exit status {found.returncode}").splitlines()[-1]
            raise RuntimeError(f"{module} failed: {reason}")
        return json.loads(found.stdout.strip().splitlines()[-1])


def listed(lines: Lines) -> Lines:
    """As a Markdown list."""
    return lambda found: [f"- {line}" for line in lines(found)]


SECTIONS = {
    "generation": Section(title="Images beside the published code", lines=generation.lines, minutes=10),
    "training": Section(title="Training beside the published code", lines=training.lines, minutes=6),
    "text": Section(title="Text beside transformers", lines=text.lines, minutes=4),
    "speculative": Section(
        title="Speculative decoding of text", lines=speculative.lines, minutes=2, shipped=True
    ),
    "startup": Section(title="Start-up", lines=startup.lines, minutes=2, shipped=True),
    "verbs": Section(title="The shipped model", lines=listed(verbs.lines), minutes=1, shipped=True),
    "worlds": Section(
        title="Worlds: vector environments",
        lines=listed(lambda found: worlds.lines(found["frames_per_second"])),
        minutes=2,
        shipped=True,
    ),
    "mineworld": Section(
        title="Worlds: MineWorld's shape",
        lines=listed(lambda found: mineworld.lines(*found.values())),
        minutes=6,
    ),
    "voxel": Section(
        title="The voxel world, one thread",
        lines=listed(voxel.lines),
        minutes=1,
        environment=ONE_THREAD,
    ),
    "growth": Section(title="Growth", lines=growth.lines, minutes=8),
    "layout": Section(
        title="The layout of one token",
        lines=listed(lambda found: layout.lines(found["milliseconds"])),
        minutes=1,
    ),
    "infinity": Section(title="Infinity's schedules", lines=listed(infinity.lines), minutes=3),
    "preference": Section(title="Preference tuning beside TRL", lines=listed(preference.lines), minutes=3),
    "serving": Section(title="The server under load", lines=listed(serving.lines), minutes=5, shipped=True),
}


def chosen(names: Sequence[str] | None) -> dict[str, Section]:
    """The sections of these names, all for none. ValueError for an unknown one."""
    for name in names or ():
        if name not in SECTIONS:
            raise ValueError(f"unknown part {name!r}: choose from {', '.join(SECTIONS)}")
    return {name: section for name, section in SECTIONS.items() if not names or name in names}
