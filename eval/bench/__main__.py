"""`make bench`: all benchmarks, printed and written to a file with the machine, the versions and the command.

The yardstick of a comparison is measured in the same run. `--against PATH` compares with another
checkout instead (`comparison.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unified.eval.bench import (
    comparison,
    infinity,
    layout,
    mineworld,
    preference,
    rows,
    serving,
    verbs,
    worlds,
)
from unified.eval.bench.comparison import Checkout
from unified.eval.bench.images import cases, in_own_process
from unified.eval.bench.machine import machine, versions

import unified
from unified.command import Parser, run
from unified.pretrained import SHIPPED

ROOT = Path(unified.__file__).resolve().parents[1]
MINEWORLD_REPEATS = 3  # frames of each case: one by raster takes seconds
GOALS = {"float32": 1.2, "bfloat16": 3.0}


def run_images(repeats: int, batches: Sequence[int]) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    for case in cases(repeats, batches):
        result = in_own_process(case)
        yardstick = next(
            (r for r in results if r["method"] == "published" and r["batch"] == case.batch), result
        )
        total = result["transformer_seconds"] + result["decoder_seconds"]
        reference = yardstick["transformer_seconds"] + yardstick["decoder_seconds"]
        result["images_per_second"] = case.batch / result["transformer_seconds"]
        result["images_per_second_decoded"] = case.batch / total
        result["times_as_fast"] = yardstick["transformer_seconds"] / result["transformer_seconds"]
        result["times_as_fast_decoded"] = reference / total
        result["memory_ratio"] = result["peak_mb"] / yardstick["peak_mb"]
        results.append(result)
        print(line(result), flush=True)
    return results


HEADER = f"{'generation':24} {'transformer':>22} {'with decoder':>22} {'peak memory':>18}"


def line(result: dict[str, Any]) -> str:
    """One row of the table: seconds a batch, and how many times as fast as the published way in this run."""
    total = result["transformer_seconds"] + result["decoder_seconds"]
    name = f"{result['method']} {result['dtype']} x{result['batch']}"
    return (
        f"{name:24} {result['transformer_seconds']:8.3f} s {result['times_as_fast']:6.2f} times"
        f" {total:10.3f} s {result['times_as_fast_decoded']:6.2f} times"
        f" {result['peak_mb']:8.0f} MB ({result['memory_ratio']:.2f})"
    )


def goals(results: list[dict[str, Any]]) -> list[str]:
    """What was to be reached, and whether it was."""
    lines = []
    for result in results:
        goal = GOALS[result["dtype"]]
        if result["method"] == "var":
            reached = result["times_as_fast_decoded"]
            verdict = "reached" if reached >= goal else "MISSED"
            memory = "reached" if result["memory_ratio"] <= 1 else "MISSED"
            lines.append(
                f"{result['dtype']} x{result['batch']}, with decoder: {reached:.2f} times as fast as the "
                f"published way (goal {goal}: {verdict}), {result['memory_ratio']:.2f} of its memory "
                f"(goal 1.00: {memory})"
            )
    return lines


def run_voxel(seconds: float) -> dict[str, Any]:
    """The voxel world beside Crafter, in a process with one thread."""
    command = [sys.executable, "-m", "unified.eval.bench.voxel", "--seconds", str(seconds), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(result.stdout)


def run_verbs() -> dict[str, Any] | None:
    """The shipped model's speed, in a process of its own; None where no weights are shipped."""
    if not (SHIPPED / "config.json").is_file():
        return None
    command = [sys.executable, "-m", "unified.eval.bench.verbs", "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def run_layout() -> dict[str, float]:
    """Milliseconds of the layout of one generated token, in a process of its own."""
    command = [sys.executable, "-m", "unified.eval.bench.layout", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)["milliseconds"]


def run_mineworld(repeats: int) -> dict[str, dict[str, float]]:
    """Frames a second, and per second of processor time, at MineWorld's shape, in a process of its own."""
    command = [sys.executable, "-m", "unified.eval.bench.mineworld", "--json", "--repeats", str(repeats)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def run_infinity() -> dict[str, dict[str, float]]:
    """Memory and seconds of Infinity's schedules, in a process of its own."""
    command = [sys.executable, "-m", "unified.eval.bench.infinity", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def run_preference() -> dict[str, float]:
    """Pairs a second of preference tuning beside plain TRL, in a process of its own."""
    command = [sys.executable, "-m", "unified.eval.bench.preference", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout.strip().splitlines()[-1])


def run_worlds(seconds: float) -> dict[str, float] | None:
    """Frames a second of the vector environments, in a process of its own; None where no weights are
    shipped."""
    if not (SHIPPED / "config.json").is_file():
        return None
    command = [sys.executable, "-m", "unified.eval.bench.worlds", "--json", "--seconds", str(seconds)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)["frames_per_second"]


def run_serving() -> dict[str, Any] | None:
    """The server under load, in a process of its own; None where no weights are shipped."""
    if not (SHIPPED / "config.json").is_file():
        return None
    command = [sys.executable, "-m", "unified.eval.bench.serving", "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def bench(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print everything; the report."""
    repeats = options.repeats or 7
    print(HEADER)
    results = run_images(repeats, options.batches)
    print("\n".join(goals(results)))
    voxel = run_voxel(options.seconds)
    for name, rate in voxel["frames_per_second"].items():
        print(f"{name}: {rate} frames/s")
    shipped = run_verbs()
    print("\n".join(verbs.lines(shipped) if shipped else ["no weights are shipped: no verb was timed"]))
    rates = run_worlds(options.seconds)
    print("\n".join(worlds.lines(rates or {})))
    token = run_layout()
    print("\n".join(layout.lines(token)))
    imagined = run_mineworld(min(repeats, MINEWORLD_REPEATS))
    print("\n".join(mineworld.lines(*imagined.values())))
    schedules = run_infinity()
    print("\n".join(infinity.lines(schedules)))
    tuned = run_preference()
    print("\n".join(preference.lines(tuned)))
    load = run_serving()
    print("\n".join(serving.lines(load or {"refused": "no weights are shipped: nothing was served"})))
    return {
        "command": f"python -m unified.eval.bench --repeats {repeats}",
        "machine": machine(),
        "versions": versions(),
        "images": results,
        "goals": goals(results),
        "voxel": voxel,
        "verbs": shipped,
        "worlds": rates,
        "layout_milliseconds": token,
        "mineworld": imagined,
        "infinity": schedules,
        "preference": tuned,
        "serving": load,
    }


def against(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Measure this checkout beside another one and print the rows; the report, and its table in Markdown.
    ValueError for a path or a row that is none, RuntimeError where the code of neither would be measured."""
    old, new = Checkout.at(options.against), Checkout.at(ROOT)
    wanted = rows.measurements(
        repeats=options.repeats or 3,
        batches=options.batches,
        seconds=options.seconds,
        fields=old.fields() & new.fields(),
    )
    wanted = rows.chosen(wanted, options.only)
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
        "--output", type=Path, help="default: docs/bench.json; with --against build/bench_against.json"
    )
    parser.add_argument("--repeats", type=int, help="calls a process times (7; with --against 3)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, default=3.0, help="time per measurement of the voxel world")
    parser.add_argument("--against", metavar="PATH", help="another checkout, to compare this one with")
    parser.add_argument("--only", metavar="NAME", help="with --against: rows whose name contains it")
    parser.add_argument(
        "--rounds", type=int, default=3, help="with --against: processes of each checkout (3)"
    )
    options = parser.parse_args(arguments)
    for name in ("repeats", "rounds"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, got {value}")
    if options.only is not None and options.against is None:
        parser.error("--only chooses rows of a comparison: give --against PATH too")
    return parser, options


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser, options = parsed(arguments)
    return run(parser.prog, lambda options: _measure(parser, options), options)


def _measure(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    table = None
    if options.against is None:
        report = bench(options)
    else:
        try:
            report, table = against(options)
        except (ValueError, RuntimeError) as error:
            parser.exit(2, f"{error}\n")
    output = options.output or Path("build/bench_against.json" if table else "docs/bench.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    if table:
        output.with_suffix(".md").write_text(table)
    print(f"wrote {output}" + (f" and {output.with_suffix('.md')}" if table else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
