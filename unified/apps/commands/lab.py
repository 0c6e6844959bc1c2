"""`unified lab`: published techniques as small experiments on one ground."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from unified.apps.commands.common import check_folder

if TYPE_CHECKING:
    from unified.eval.lab.ground.ground import Ground

ACTIONS = ("list", "run", "report", "prepare", "conform", "cross")
MOST_THREADS = 1024
NAMED = ("run", "conform", "prepare")  # actions that take names


def lab(options: argparse.Namespace) -> int:
    """One action of the laboratory. ValueError for names where none belong, or none where they do."""
    if options.action not in NAMED and options.names:
        raise ValueError(f"lab {options.action} takes no names, got {options.names[0]!r}")
    if options.action == "run" and not options.names:
        raise ValueError("name what is to be run: `unified lab list` has the papers")
    if options.action == "run":
        _check_papers(options.names)
    if options.threads > MOST_THREADS:
        raise ValueError(f"--threads must be at most {MOST_THREADS}, got {options.threads}")
    for folder in (options.out, options.work, options.weights):
        if folder is not None:
            check_folder(folder)
    return {
        "list": _list,
        "run": _run,
        "report": _report,
        "prepare": _prepare,
        "conform": _conform,
        "cross": _cross,
    }[options.action](options)


def _check_papers(names: list[str]) -> None:
    """ValueError for a name of no paper, before anything heavy is imported."""
    from unified.eval.lab.papers import check_paper

    for name in names:
        check_paper(name)


def _ground(options: argparse.Namespace) -> Ground:
    import torch

    from unified.eval.lab.ground.ground import SHIPPED, Ground
    from unified.eval.lab.sizes import FULL, TOY

    torch.set_num_threads(options.threads)
    work: Path = options.work
    own = work / "toy" / "weights" if options.toy else SHIPPED
    return Ground(
        TOY if options.toy else FULL, options.weights or own, work / ("toy" if options.toy else "full")
    )


def _results(options: argparse.Namespace) -> Path:
    return options.work / "toy" / "results" if options.toy else options.out / "results"


def _list(options: argparse.Namespace) -> int:
    from unified.eval.lab.report import listed, rows

    found = rows(_results(options))
    if options.json:
        print(
            json.dumps(
                [{**vars(paper), "status": status, "verdict": verdict} for paper, status, verdict in found]
            )
        )
    else:
        print("\n".join(listed(_results(options))))
    return 0


def _run(options: argparse.Namespace) -> int:
    from unified.eval.lab.ground.prepare import prepare
    from unified.eval.lab.report import STATES, judged
    from unified.eval.lab.runner import find, run

    experiments = [find(name) for name in options.names]
    ground = _ground(options)
    if options.toy:
        prepare(ground, options.work / "toy" / "training")
    for experiment in experiments:
        results = run(
            experiment.name, ground, range(options.seeds), _results(options), ground.cache / "experiments"
        )
        criteria, verdict, why = judged(experiment, results)
        if options.json:
            found = [criterion.to_json() for criterion in criteria]
            print(json.dumps({"name": experiment.name, "verdict": verdict, "why": why, "criteria": found}))
            continue
        for criterion in criteria:
            print(f"{STATES[criterion.met]}: {criterion.what}: {criterion.measured or criterion.why}")
        print(f"{experiment.name}: {verdict}{': ' + why if why else ''}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from unified.eval.lab.report import write_report

    ground = _ground(options)
    pages = options.work / "toy" / "pages" if options.toy else options.out
    for path in write_report(_results(options), pages, ground.manifest()):
        print(f"wrote {path}")
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from unified.eval.lab.ground.prepare import prepare
    from unified.eval.lab.report import ground_lines

    ground = _ground(options)
    found = prepare(ground, ground.cache / "training", options.names)
    print(json.dumps(found) if options.json else "\n".join(ground_lines(found)))
    return 0


def _conform(options: argparse.Namespace) -> int:
    from unified.eval.lab.conform import conform

    failed = conform(options.names)
    return 1 if failed else 0


def _cross(options: argparse.Namespace) -> int:
    from unified.eval.lab.cross import cross
    from unified.eval.lab.ground.prepare import prepare

    ground = _ground(options)
    if options.toy:
        prepare(ground, options.work / "toy" / "training")
    print("\n".join(cross(ground, _results(options))))
    return 0
