"""Milliseconds that the layout of one generated text token takes, for all rows of a batch at once.

    python -m unified.eval.bench.layout [--rows 1 64] [--json]

A session computes it anew for every token, beside the pass of the model, from where each row stands.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from unified.apps.demo import random_model
from unified.layout.layout import Layout

ROWS = (1, 64)
GOALS = {64: 2.0}  # rows: milliseconds at most


def next_token(rows: int) -> Callable[[], Layout]:
    """A function that computes the layout [rows, 1] of one more text token after a short prompt."""
    words = random_model()[0].vocabulary
    prompt = [words.begin, words.user, *range(20), words.end, words.assistant]
    cursors = Layout.of([prompt] * rows, words).cursors
    active = [True] * rows
    return lambda: Layout.tokens(cursors, active)


def milliseconds(function: Callable[[], Any], repeats: int, calls: int = 20) -> float:
    """Milliseconds a call: the fastest of `repeats` series of `calls`, after one call that warms up."""
    function()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        found.append((time.perf_counter() - start) / calls)
    return 1000 * min(found)


def measure(rows: Sequence[int] = ROWS, repeats: int = 7) -> dict[str, float]:
    """Milliseconds by number of rows."""
    return {str(count): milliseconds(next_token(count), repeats) for count in rows}


def lines(measured: dict[str, float]) -> list[str]:
    """One line for each number of rows, with its goal where there is one."""
    found = []
    for rows, value in measured.items():
        goal = GOALS.get(int(rows))
        verdict = f" (goal below {goal:g}: {'reached' if value < goal else 'MISSED'})" if goal else ""
        found.append(f"layout of one generated token x{rows}: {value:.3f} ms{verdict}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m unified.eval.bench.layout", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=7, help="the fastest counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if min(*options.rows, options.repeats, options.threads) < 1:
        parser.error("--rows, --repeats and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    measured = measure(options.rows, options.repeats)
    print(json.dumps({"milliseconds": measured}) if options.json else "\n".join(lines(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
