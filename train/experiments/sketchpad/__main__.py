"""What a sketch is worth, in one command.

    python -m unified.train.experiments.sketchpad                  all arms, three seeds; goes on where it was
    python -m unified.train.experiments.sketchpad fill --seeds 0   one arm, one seed
    python -m unified.train.experiments.sketchpad --list           what the arms are
    python -m unified.train.experiments.sketchpad --table          the results so far as Markdown

Models of one start and size learn the same mazes of 3 x 3 to 5 x 5 cells, in pictures of 64 x 64 pixels,
told in different ways; arms with sketches are then tested with their own, none, blank ones, noise, those of
another maze and the true ones, at sizes up to 8 x 8. `ARM-SEED.json` holds what was measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transformers.utils.logging import disable_progress_bar
from unified.train.experiments.sketchpad import results
from unified.train.experiments.sketchpad.arms import ARMS, TOY, Setting, arms_of, run

from unified.apps.commands.common import count, number, seed
from unified.command import Parser
from unified.command import run as run_command

SEEDS = (0, 1, 2)
TABLE = "table.md"


def parser() -> argparse.ArgumentParser:
    budget, mazes = Setting().budget, Setting().mazes
    root = Parser(prog="unified.train.experiments.sketchpad", description="what a sketch is worth")
    root.add_argument("arms", nargs="*", metavar="ARM", help=f"default: all of {', '.join(ARMS)}")
    root.add_argument("--list", action="store_true", help="say what the arms are")
    root.add_argument("--table", action="store_true", help="write the table of the results so far")
    root.add_argument("--seeds", type=seed, nargs="+", default=SEEDS, help="default 0 1 2")
    root.add_argument("--out", type=Path, default=Setting().out, help="folder of the results")
    root.add_argument("--work", type=Path, default=Setting().work, help="folder of the models")
    root.add_argument(
        "--mazes", type=count, default=mazes.count, help=f"of each size (default {mazes.count})"
    )
    root.add_argument(
        "--steps", type=count, default=budget.steps, help=f"of the decoder (default {budget.steps})"
    )
    root.add_argument("--pairs", type=count, default=budget.pairs, help=f"steps (default {budget.pairs})")
    root.add_argument("--seconds", type=_seconds, help="of training, at most (default: any)")
    root.add_argument("--toy", action="store_true", help="tiny, to see that everything works")
    return root


def _seconds(text: str) -> float:
    return number(text, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    return run_command("unified.train.experiments.sketchpad", _work, options)


def _work(options: argparse.Namespace) -> int:
    if options.list:
        for name, arm in ARMS.items():
            print(f"{name:12} {arm.what}")
        return 0
    if not options.table:
        setting = _setting(options)
        for name in _ordered(arms_of(options.arms)):
            for number_ in options.seeds:
                run(name, number_, setting)
    found = results.read(options.out)
    if not found:
        raise ValueError(f"{options.out}: no results of arms")
    text = results.table(found)
    (options.out / TABLE).write_text(text, encoding="utf-8")
    print(text, f"wrote {options.out / TABLE}", sep="")
    return 0


def _setting(options: argparse.Namespace) -> Setting:
    disable_progress_bar()
    setting = TOY if options.toy else Setting()
    if not options.toy:
        how = {"steps": options.steps, "pairs": options.pairs, "seconds": options.seconds}
        budget = replace(setting.budget, **how)
        setting = replace(setting, budget=budget, mazes=replace(setting.mazes, count=options.mazes))
    return replace(setting, out=options.out, work=options.work)


def _ordered(names: Sequence[str]) -> list[str]:
    """Arms that train as long as another after it."""
    return sorted(names, key=lambda name: bool(ARMS[name].timed))


if __name__ == "__main__":
    sys.exit(main())
