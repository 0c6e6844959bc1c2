"""Memory and seconds of Infinity's published schedules through a session, at a small width.

    python -m unified.eval.bench.infinity [--resolutions 0.06M 0.25M 0.60M 1M] [--json]

A transformer of two layers of width 64 writes 32-bit codes with guidance: 521 slots for the smallest
resolution, 10,521 for 1024 x 1024 pixels. Peak memory above that of the smallest one must grow with the
slots; a table [T, T] of the largest would take 443 MB in float32, 111 MB as a mask. Images are not decoded:
a convolution takes what its pixels take.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from unified.eval.bench.measured import peak_mb

from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_config import InfinityConfig
from unified.checkpoints.infinity_generation import feed
from unified.checkpoints.infinity_schedules import RESOLUTIONS, schedule
from unified.command import Parser, run
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.orders.shapes import Shapes, area

WORDS = 8  # features of the text
GROWTH = 1.5  # goal: bytes a slot of the largest schedule over those of the first that is compared
SAMPLER = Sampler(temperature=0.5, top_p=0.97)


def small_model() -> Infinity:
    """Random weights; the code is that of the released 2B model."""
    torch.manual_seed(0)
    return Infinity(InfinityConfig(cell_bits=32, depth=2, width=64, heads=4)).eval()


def write(model: Infinity, shapes: Shapes) -> Tensor:
    """The codes [1, T] of one image of these maps."""
    session = Session(model, seed=0)
    feed(session, model, [torch.ones(WORDS, model.config.text_width)])
    drawing = session.draw(shapes, order=model.order, sampler=SAMPLER, guidance=Constant(3.0))
    return drawing.codes


class LargestTensor(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                held = leaf.untyped_storage().nbytes() // leaf.element_size()  # less in expanded views
                self.numbers = max(self.numbers, min(leaf.numel(), held))
        return found


def largest_tensor(work: Callable[[], Any]) -> int:
    """Numbers in the largest tensor that an operation of `work` returns."""
    with LargestTensor() as watch:
        work()
    return watch.numbers


def measure(resolutions: Sequence[str] = tuple(RESOLUTIONS)) -> dict[str, dict[str, float]]:
    """By resolution, smallest first: slots, seconds, and the peak memory of this process in MB so far."""
    model, found = small_model(), {}
    write(model, schedule(1.0, "0.06M"))  # kernels, allocator
    for name in sorted(resolutions, key=lambda name: RESOLUTIONS[name]):
        shapes = schedule(1.0, name)
        start = time.perf_counter()
        write(model, shapes)
        seconds = time.perf_counter() - start
        found[name] = {"slots": float(area(shapes)), "seconds": seconds, "peak_mb": peak_mb()}
    return found


def bytes_per_slot(measured: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of every resolution but the first: peak memory above the first's, for each slot above the first's."""
    first, *rest = measured.items()
    base = first[1]
    return {
        name: (row["peak_mb"] - base["peak_mb"]) * 2**20 / (row["slots"] - base["slots"])
        for name, row in rest
    }


def lines(measured: dict[str, dict[str, float]]) -> list[str]:
    """One line for each resolution, and whether memory grew with the slots."""
    above = bytes_per_slot(measured)
    found = [
        f"Infinity {name}: {row['slots']:.0f} slots, {row['seconds']:.2f} s, peak {row['peak_mb']:.0f} MB"
        + (f", {above[name] / 1024:.1f} kB a slot above the smallest" if name in above else "")
        for name, row in measured.items()
    ]
    if len(above) > 1:
        first, *_, last = above.values()
        growth = last / first if first > 0 else float("inf")
        verdict = "reached" if growth <= GROWTH else "MISSED"
        ratio = f"{growth:.2f} times the memory a slot (goal at most {GROWTH:g}: {verdict})"
        found.append(f"Infinity {list(above)[-1]} beside {next(iter(above))}: {ratio}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = Parser(prog="python -m unified.eval.bench.infinity", description=__doc__.splitlines()[0])
    parser.add_argument("--resolutions", nargs="+", choices=tuple(RESOLUTIONS), default=list(RESOLUTIONS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.threads < 1:
        parser.error("--threads must be at least 1")
    return run(parser.prog, _print, options)


def _print(options: argparse.Namespace) -> int:
    torch.set_num_threads(options.threads)
    found = measure(options.resolutions)
    print(json.dumps(found) if options.json else "\n".join(lines(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
