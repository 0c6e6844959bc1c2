"""Writes a data set of records: `python -m unified.tasks.mazes.write maze FOLDER --split train --count 1000`.

Samples depend on seed, split and index alone, so any number of workers writes the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

from unified.tasks.mazes import TASKS
from unified.tasks.mazes.records import write_records
from unified.tasks.sample import SPLITS, Sample, Task, check_split

from unified.command import Parser, run


def samples(task: Task, split: str, count: int, workers: int = 1) -> Iterator[Sample]:
    """The first `count` samples of a split, in order, made by `workers` processes."""
    check_split(split)
    if count < 1 or workers < 1:
        raise ValueError(f"count and workers must be at least 1, got {count} and {workers}")
    make = partial(task.sample, split=split)
    return map(make, range(count)) if workers == 1 else _shared_out(make, count, workers)


def _shared_out(make: Callable[[int], Sample], count: int, workers: int) -> Iterator[Sample]:
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(make, range(count), chunksize=16)


def main(arguments: list[str] | None = None) -> int:
    return run("error", _write, _parser().parse_args(arguments))


def _write(options: argparse.Namespace) -> int:
    task = TASKS[options.task]()
    config = replace(task.config, seed=options.seed, image_size=options.image_size)
    chosen = samples(type(task)(config), options.split, options.count, options.workers)
    written = write_records(chosen, options.folder, per_image=options.per_image)
    print(f"{written} records in {options.folder}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="unified.tasks.mazes.write", description="write planning records")
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("folder", help="an empty or new folder")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--count", type=int, default=100, help="number of samples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--per-image", action="store_true", help="one record per state image")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
