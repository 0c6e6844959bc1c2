"""Time and peak memory of an image against tokens, rows and layers, and of a frame against frames of context.

    python -m unified.eval.bench.growth [--axes tokens rows layers frames] [--json]

Our model (width 256, 4 layers) through a `Session`, float32, guidance, without pixels; every point is a
process of its own. An exponent is the slope between two neighbouring points on logarithmic axes: 1 is growth
in step, 2 that of attention among all pairs of tokens.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from unified.eval.bench import mineworld
from unified.eval.bench.images import CODES, SAMPLER, SCALE, peak_mb
from unified.eval.bench.table import goal, rows_of

from unified.config import UnifiedConfig, text_decoder
from unified.decoding.guidance import Constant
from unified.decoding.session import Session
from unified.model import UnifiedModel

SIDES = {  # of the maps, by tokens an image
    680: (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),  # VAR, 256 pixels
    2240: (1, 2, 3, 4, 6, 9, 13, 18, 24, 32),  # VAR, 512 pixels
    10521: (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64),  # Infinity, 1024 pixels
}
POINTS = {
    "tokens": tuple(SIDES),
    "rows": (1, 4, 16, 64),
    "layers": (2, 4, 8, 16),
    "frames": (1, 2, 4, 8),
}
MOST = {"tokens": 2.0, "rows": 1.1, "layers": 1.1, "frames": 1.1}  # exponents of time; 0.1 is noise
WHAT = {
    "tokens": "tokens an image",
    "rows": "rows of 680 tokens",
    "layers": "layers, 680 tokens",
    "frames": "frames of context, one frame of 14 x 24",
}
REPEATS = 2


def image(tokens: int = 680, rows: int = 1, layers: int = 4) -> Callable[[], Any]:
    """Draws one image in each row."""
    torch.manual_seed(0)
    backbone = text_decoder(width=256, layers=layers, heads=4, kv_heads=4, mlp=1024)
    words = {"visual": CODES, "max_side": 64}
    model: Any = UnifiedModel(UnifiedConfig(backbone=backbone, vocabulary=words)).eval().fuse()
    shapes = [(side, side) for side in SIDES[tokens]]
    prompt = [model.vocabulary.begin, model.vocabulary.user, *range(20)]
    prompt += [model.vocabulary.end, model.vocabulary.assistant]

    def draw() -> None:
        session = Session(model, rows=rows)
        session.feed(prompt)
        session.draw(shapes, guidance=Constant(SCALE), sampler=SAMPLER)

    return draw


def frame(frames: int) -> Callable[[], Any]:
    """Imagines a frame after so many."""
    size = mineworld.Size(layers=4, width=256, heads=4, kv_heads=4, inner=1024)
    first = mineworld.prepared(mineworld.own(size), size, frames + 1)
    return lambda: mineworld.frame(mineworld.copies(first, 1), "next_scale", size.grid)


@torch.no_grad()
def point(axis: str, value: int) -> dict[str, float]:
    """Seconds, the fastest of a few, and peak MB."""
    make = frame(value) if axis == "frames" else image(**{axis: value})
    make()
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        make()
        found.append(time.perf_counter() - start)
    return {"value": value, "seconds": min(found), "peak_mb": peak_mb()}


def measure(axes: Sequence[str], threads: int) -> dict[str, list[dict[str, float]]]:
    """The points of each axis, each in a process of its own."""
    found: dict[str, list[dict[str, float]]] = {}
    for axis in axes:
        for value in POINTS[axis]:
            command = [sys.executable, "-m", "unified.eval.bench.growth", "--point", axis, str(value)]
            command += ["--threads", str(threads)]
            result = subprocess.run(command, capture_output=True, text=True, check=True)
            found.setdefault(axis, []).append(json.loads(result.stdout.strip().splitlines()[-1]))
    return found


def exponents(points: Sequence[dict[str, float]], key: str) -> list[float]:
    """Slopes between neighbouring points on logarithmic axes."""
    return [
        math.log(after[key] / before[key]) / math.log(after["value"] / before["value"])
        for before, after in pairwise(points)
    ]


def lines(found: dict[str, list[dict[str, float]]]) -> list[str]:
    """The table in Markdown, and the goals below it."""
    body, told = [], []
    for axis, points in found.items():
        slopes = ["", *(f"{slope:.2f}" for slope in exponents(points, "seconds"))]
        sizes = ["", *(f"{slope:.2f}" for slope in exponents(points, "peak_mb"))]
        for one, slope, size in zip(points, slopes, sizes, strict=True):
            told_of = (WHAT[axis], int(one["value"]), f"{one['seconds']:.2f} s", slope)
            body.append((*told_of, f"{one['peak_mb']:.0f} MB", size))
        steepest = max(exponents(points, "seconds"))
        told.append(
            f"{WHAT[axis]}: steepest exponent of time {steepest:.2f} {goal(steepest, MOST[axis], most=True)}"
        )
    header = ("grows with", "value", "time", "exponent", "peak memory", "exponent")
    return [*rows_of(header, body), "", *(f"- {line}" for line in told)]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m unified.eval.bench.growth", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--axes", nargs="+", choices=list(POINTS), default=list(POINTS))
    parser.add_argument("--point", nargs=2, metavar=("AXIS", "VALUE"), help="one point, in this process")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.threads < 1:
        parser.error("--threads must be at least 1")
    torch.set_num_threads(options.threads)
    if options.point:
        print(json.dumps(point(options.point[0], int(options.point[1]))))
        return 0
    found = measure(options.axes, options.threads)
    print(json.dumps(found) if options.json else "\n".join(lines(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
