"""Images beside the published way (`baseline.py`), both sides in float32 or both in bfloat16, in turn.

    python -m unified.eval.bench.generation [--batches 1 4] [--pairs 7] [--json]

`var` is VAR through a `Session` with the weights of the yardstick, `own` our model at equal depth and width
(`images.py`). In bfloat16 our weights are bfloat16, those of the yardstick float32 under autocast, as
published. Peak memory is that of a process of its own for each side.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from unified.eval.bench.images import Case, in_own_process, steps
from unified.eval.bench.interleaved import PAIRS, Ratio, interleaved
from unified.eval.bench.table import goal, rows_of

from unified.precision import fast_bf16

GOALS = {"float32": 1.3, "bfloat16": 2.0}  # times as fast, with the decoder, of `var`
NOT_FAST = "bfloat16 was not measured: this processor has no instructions for it"
HEADER = [
    *("", "batch", "published", "ours", "times as fast"),
    *("with decoder, published", "ours", "times as fast", "memory, published", "ours"),
]


def dtypes() -> list[str]:
    """What this processor computes fast."""
    return ["float32", *(["bfloat16"] if fast_bf16() else [])]


def compare(method: str, dtype: str, batch: int, pairs: int, threads: int) -> dict[str, Any]:
    """One row: ratios of the transformer alone and with the decoder, and peak MB of both sides."""
    sides = {
        name: Case(method=name, dtype=dtype, batch=batch, threads=threads, repeats=1)
        for name in (method, "published")
    }
    memory = {name: in_own_process(case)["peak_mb"] for name, case in sides.items()}
    (ours, our_decoder), (theirs, their_decoder) = (steps(sides[name]) for name in (method, "published"))
    alone = interleaved(ours, theirs, pairs)
    whole = interleaved(_then(ours, our_decoder), _then(theirs, their_decoder), pairs)
    return {
        "method": method,
        "dtype": dtype,
        "batch": batch,
        "transformer": asdict(alone),
        "whole": asdict(whole),
        "our_mb": memory[method],
        "their_mb": memory["published"],
    }


def _then(make: Callable[[], Any], decode: Callable[[Any], Any]) -> Callable[[], Any]:
    return lambda: decode(make())


def measure(batches: Sequence[int], pairs: int, threads: int) -> list[dict[str, Any]]:
    found = []
    for dtype in dtypes():
        for batch in batches:
            for method in ("var", "own"):
                found.append(compare(method, dtype, batch, pairs, threads))
                print(_told(found[-1]), file=sys.stderr, flush=True)
    return found


def _told(row: dict[str, Any]) -> str:
    whole = Ratio(**row["whole"])
    return f"{row['method']} {row['dtype']} x{row['batch']}: {whole} times as fast with the decoder"


def lines(found: Sequence[dict[str, Any]]) -> list[str]:
    """The table in Markdown, and the goals below it."""
    body = []
    for row in found:
        alone, whole = Ratio(**row["transformer"]), Ratio(**row["whole"])
        body.append(
            (
                f"{row['method']}, {row['dtype']}",
                row["batch"],
                f"{alone.theirs:.2f} s",
                f"{alone.ours:.2f} s",
                alone,
                f"{whole.theirs:.2f} s",
                f"{whole.ours:.2f} s",
                whole,
                f"{row['their_mb']:.0f} MB",
                f"{row['our_mb']:.0f} MB ({row['our_mb'] / row['their_mb']:.2f})",
            )
        )
    told = [line for row in found if row["method"] == "var" for line in _goals(row)]
    if not any(row["dtype"] == "bfloat16" for row in found):
        told.append(NOT_FAST)
    return [*rows_of(HEADER, body), "", *(f"- {line}" for line in told)]


def _goals(row: dict[str, Any]) -> list[str]:
    name = f"{row['dtype']}, batch {row['batch']}, with decoder"
    times, memory = row["whole"]["times"], row["our_mb"] / row["their_mb"]
    return [
        f"{name}: {times:.2f} times as fast {goal(times, GOALS[row['dtype']])}",
        f"{name}: {memory:.2f} of the memory {goal(memory, 1.0, most=True)}",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m unified.eval.bench.generation", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"of interleaved runs ({PAIRS})")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if min(*options.batches, options.threads) < 1 or options.pairs < 2:
        parser.error("--batches and --threads must be at least 1, --pairs at least 2")
    torch.set_num_threads(options.threads)
    found = measure(options.batches, options.pairs, options.threads)
    print(json.dumps(found) if options.json else "\n".join(lines(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
