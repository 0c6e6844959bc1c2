"""`make bench`: all parts of the bench, printed, and written to a file and a page with the machine, the
versions and the command.

The yardstick of a comparison is measured in the same run. `--against PATH` compares with another
checkout instead (`comparison.py`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unified.eval.bench import comparison, rows
from unified.eval.bench.comparison import Checkout
from unified.eval.bench.machine import busy_cores, check_idle, machine, versions
from unified.eval.bench.page import page
from unified.eval.bench.sections import Section, chosen

import unified
from unified.command import Parser, run
from unified.pretrained import SHIPPED

ROOT = Path(unified.__file__).resolve().parents[1]
MOST_SECONDS = 600  # of a rate of the voxel world
REPORT, PAGE = Path("docs/bench.json"), "speed.md"  # the page lies beside the report


def bench(options: argparse.Namespace, output: Path) -> None:
    """Measure the chosen parts and print them; report and page are written after each. ValueError where other
    programs are busy, unless forced."""
    report = _begun(output)
    for name, section in chosen(options.only).items():
        print(f"{section.title} (about {section.minutes:g} min) ...", file=sys.stderr, flush=True)
        if section.shipped and not (SHIPPED / "config.json").is_file():
            print(f"{section.title}: no weights are shipped, not measured")
            continue
        if not options.force:
            check_idle()
        report[name] = _measured(name, section)
        print(
            "\n".join(["", f"## {section.title}", "", *section.lines(report[name]["measured"])]), flush=True
        )
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        output.with_name(PAGE).write_text(page(report), encoding="utf-8")


def _begun(output: Path) -> dict[str, Any]:
    """What an earlier run has measured. ValueError for a file that is no report, and for a folder."""
    if output.is_dir():
        raise ValueError(f"{output} is a folder: give a file for the report")
    try:
        found = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{output} is no report of the bench: {error}") from None
    if not isinstance(found, dict) or any(not isinstance(part, dict) for part in found.values()):
        raise ValueError(f"{output} is no report of the bench: give another file")
    return found


def _measured(name: str, section: Section) -> dict[str, Any]:
    where = {**machine(), "other_programs": busy_cores()}
    commit = Checkout.at(ROOT).commit()
    return {"measured": section.measured(name), "commit": commit, "machine": where, "versions": versions()}


def against(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Measure this checkout beside another one and print the rows; the report, and its table in Markdown.
    ValueError for a path or a row that is none, RuntimeError where the code of neither would be measured."""
    old, new = Checkout.at(options.against), Checkout.at(ROOT)
    wanted = rows.measurements(
        repeats=options.repeats,
        batches=options.batches,
        seconds=options.seconds,
        fields=old.fields() & new.fields(),
    )
    wanted = rows.chosen(wanted, " ".join(options.only) if options.only else None)
    names = {"old": f"{old.root} at {old.commit()}", "new": f"{new.root} at {new.commit()}"}
    titles = [*(f"{name}: {place}" for name, place in names.items()), "", comparison.HEADER]
    print("\n".join(titles), flush=True)
    before, found = machine(), []
    for row in comparison.compare(wanted, new, old, options.rounds):
        found.append(row)
        print(comparison.line(row), flush=True)
    verdict = comparison.summary(found)
    print(f"\n{verdict}")
    report = {**names, "machine": before, "versions": versions(), "rounds": options.rounds}
    report |= {"rows": [comparison.as_json(row) for row in found], "summary": verdict}
    return report, "\n".join([*titles, *map(comparison.line, found), "", verdict, ""])


def parsed(arguments: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = Parser(prog="python -m unified.eval.bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, help=f"default: {REPORT}; with --against build/bench_against.json"
    )
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", help="these parts; with --against: rows whose name contains it"
    )
    parser.add_argument("--force", action="store_true", help="measure although other programs are busy")
    parser.add_argument("--against", metavar="PATH", help="another checkout, to compare this one with")
    other = parser.add_argument_group("with --against")
    other.add_argument("--repeats", type=int, default=3, help="calls a process times (3)")
    other.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    other.add_argument("--seconds", type=float, default=3.0, help="time per rate of the voxel world")
    other.add_argument("--rounds", type=int, default=3, help="processes of each checkout (3)")
    options = parser.parse_args(arguments)
    for name in ("repeats", "rounds", "batches"):
        value = getattr(options, name)
        if min(value if isinstance(value, list) else [value]) < 1:
            parser.error(f"--{name} must be at least 1, got {value}")
    if not 0 < options.seconds <= MOST_SECONDS:
        parser.error(f"--seconds must lie above 0 and up to {MOST_SECONDS}, got {options.seconds}")
    return parser, options


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser, options = parsed(arguments)
    return run(parser.prog, lambda options: _measure(parser, options), options)


def _measure(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    output = options.output or (Path("build/bench_against.json") if options.against else REPORT)
    if options.against is None:
        chosen(options.only)  # refuses an unknown part before a folder is made
        output.parent.mkdir(parents=True, exist_ok=True)
        bench(options, output)
        print(f"wrote {output} and {output.with_name(PAGE)}")
        return 0
    try:
        report, table = against(options)
    except (ValueError, RuntimeError) as error:
        parser.exit(2, f"{error}\n")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    output.with_suffix(".md").write_text(table)
    print(f"wrote {output} and {output.with_suffix('.md')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
