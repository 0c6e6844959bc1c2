"""`docs/speed.md` and the README's two lines, from what `make bench` has measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unified.eval.bench.interleaved import Ratio
from unified.eval.bench.sections import SECTIONS

HEAD = """# Speed and memory

Written by `make bench` from [bench.json](bench.json). A ratio is the median over pairs of runs in turn on one
machine, its quartiles in brackets; the yardstick is what the published code does on the same weights
(`eval/bench/baseline.py`), both sides in the same type. A goal that is missed is printed as missed. Figures
depend on the processor: each part says where it ran.

- `make bench OPTIONS="--only generation text"` measures some parts anew and keeps the others.
- `make bench AGAINST=../other` runs rows alternately with this checkout and another one, and marks those
  more than 5 % slower or larger.
- `python -m unified.eval.bench.gpu` measures on a GPU.
"""


def page(report: Mapping[str, Any]) -> str:
    """Markdown of all sections that were measured."""
    parts = [HEAD.rstrip()]
    for name, section in SECTIONS.items():
        parts += ["", f"## {section.title}", ""]
        if (found := report.get(name)) is None:
            parts.append(f'Not measured yet: `make bench OPTIONS="--only {name}"`.')
        else:
            parts += [_where(name, found), "", *section.lines(found["measured"])]
    return "\n".join(parts) + "\n"


def _where(name: str, found: Mapping[str, Any]) -> str:
    machine, versions = found["machine"], found["versions"]
    load = machine["other_programs"]
    busy = "unknown" if load is None else f"{load:.2f} cores"
    return (
        f"`python -m unified.eval.bench.{name}` at {found['commit']} on {machine['processor']}, "
        f"{machine['cores_seen']} cores, torch {versions['torch']}; other programs used {busy}."
    )


def quoted(report: Mapping[str, Any]) -> list[str]:
    """Two lines for the README; none of what was not measured."""
    lines = []
    for row in report.get("generation", {}).get("measured", ()):
        if (row["method"], row["batch"]) == ("var", 1):
            times, memory = Ratio(**row["whole"]), row["our_mb"] / row["their_mb"]
            lines.append(
                f"- images of 256 x 256 by VAR at batch 1, {row['dtype']}: {times} times as fast as the "
                f"published way, {memory:.2f} of its memory"
            )
    if (found := report.get("startup")) is not None:
        seconds = found["measured"]
        lines.append(
            f"- from `unified ask` to the answer {seconds['ask']:.1f} s, {seconds['torch']:.1f} s of them "
            "`import torch`"
        )
    return lines[-2:]
