"""`python -m unified.tasks list | show | build | check | validate`. Exit status: see `unified.command`."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unified.command import Parser, run, show_warnings

OUTSIDE = ("captions", "llava", "preference", "recordings", "mazes")
INTERRUPTED = "interrupted; the same command goes on where it stopped"


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    root = Parser(prog="python -m unified.tasks", description="Samples with exact answers.")
    commands = root.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the tasks and their options")
    _add_show(commands.add_parser("show", help="write a contact sheet of a task"))
    built = commands.add_parser("build", help="write a mixture of tasks as a Hugging Face data set")
    built.add_argument("config", type=Path, help="JSON file: seed, split, size, format, parts")
    built.add_argument("out", type=Path, help="folder of the data set; an unfinished one is completed")
    built.add_argument("--workers", type=int, help="processes (default 1; with --ray those of the cluster)")
    cluster = 'address of a Ray cluster that makes the shards: auto, HOST:PORT, or "local" to start one'
    built.add_argument("--ray", metavar="ADDRESS", help=cluster)
    built.add_argument("--quiet", action="store_true", help="no progress bar")
    checked = commands.add_parser("check", help="same seed, same bytes; splits share no sample")
    checked.add_argument("names", nargs="*", help="tasks (default: all that need no data)")
    checked.add_argument("--count", type=int, default=50, help="samples per split")
    validated = commands.add_parser("validate", help="check outside data; every fault with its line")
    validated.add_argument("kind", choices=OUTSIDE)
    validated.add_argument("path", type=Path, help="folder of captions, recordings or mazes, or JSON file")
    validated.add_argument("--images", type=Path, help="folder of the images (default: that of the file)")
    return root


def _add_show(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", help="a task, see `list`")
    command.add_argument("--out", type=Path, help="PNG file (default: NAME.png)")
    command.add_argument("--count", type=int, default=6)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--split", default="train")
    command.add_argument("--size", type=int, help="side of the pictures in pixels")
    command.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the task"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    with warnings.catch_warnings():
        show_warnings("unified.tasks")
        return run("unified.tasks", COMMANDS[options.command], options, INTERRUPTED)


def list_tasks(options: argparse.Namespace) -> int:
    from unified.tasks.registry import TASKS, option_names, required, summary

    for name in TASKS:
        needs = required(name)
        marked = [f"{key} (needed)" if key in needs else key for key in option_names(name)]
        print(f"{name:20}{summary(name)}\n{'':20}  {', '.join(marked)}")
    return 0


def show_task(options: argparse.Namespace) -> int:
    from unified.tasks.show import show

    extra = dict(_option(text) for text in options.option)
    out = options.out or Path(f"{options.name}.png")
    chosen = {key: getattr(options, key) for key in ("count", "split", "seed", "size")}
    image = show(options.name, **chosen, options=extra)
    image.save(out)
    print(f"wrote {out}: {image.width} x {image.height} pixels")
    return 0


def build_dataset(options: argparse.Namespace) -> int:
    from unified.tasks.build import build
    from unified.tasks.mixture import read_config

    config = read_config(options.config)
    shown = not options.quiet
    shards = build(config, options.out, workers=options.workers, progress=shown, ray=options.ray)
    rows, size = sum(shard.rows for shard in shards), sum(shard.bytes for shard in shards)
    files = "1 file" if len(shards) == 1 else f"{len(shards)} files"
    print(f"wrote {options.out}: {rows} samples in {files}, {size / 1e6:.1f} MB")
    return 0


def check_tasks(options: argparse.Namespace) -> int:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    from unified.tasks.check import check, without_data

    good = True
    print(f"{'task':20}{'samples':>8}{'distinct':>9}  same bytes  splits apart")
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as workers:
        for name in options.names or without_data():
            report = check(name, options.count, workers=workers)
            good &= report.good
            words = ("yes" if report.same_bytes else "NO", f"NO: {report.shared}" if report.shared else "yes")
            print(f"{name:20}{report.samples:8}{report.distinct:9}  {words[0]:10}  {words[1]}", flush=True)
    return 0 if good else 1


def validate(options: argparse.Namespace) -> int:
    from unified.tasks.outside import Faults
    from unified.tasks.outside.loading import read_all

    faults = Faults("skip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # every fault is printed
        count = read_all(options.kind, options.path, options.images, faults)
    for line in faults.lines:
        print(line, file=sys.stderr)
    if faults.note:
        print(f"note: {faults.note}", file=sys.stderr)
    print(f"{options.path}: {count} good records, {len(faults.lines)} bad")
    return 2 if faults.lines else 0


def _option(text: str) -> tuple[str, Any]:
    """KEY=VALUE; the value is JSON where it can be read as such, else a string."""
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise ValueError(f"an option is KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        return key, value


COMMANDS = {
    "list": list_tasks,
    "show": show_task,
    "build": build_dataset,
    "check": check_tasks,
    "validate": validate,
}

if __name__ == "__main__":
    sys.exit(main())
