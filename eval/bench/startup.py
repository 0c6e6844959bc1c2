"""From the command to the answer, beside what `import torch` alone takes, in turn; each a process of its own.

python -m unified.eval.bench.startup [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from unified.eval.bench.table import goal, rows_of
from unified.eval.bench.verbs import QUESTION
from unified.tasks.scenes import random_scene, render

ABOVE_TORCH, INFO = 3.0, 1.0  # seconds: of `ask` above `import torch`, of `info` in all
NAMES = {"torch": "`import torch`", "ask": "`unified ask` with a picture", "info": "`unified info`"}


def commands(picture: Path) -> dict[str, list[str]]:
    program = [sys.executable, "-m", "unified.cli"]
    return {
        "torch": [sys.executable, "-c", "import torch"],
        "ask": [*program, "ask", QUESTION, "--image", str(picture)],
        "info": [*program, "info"],
    }


def measure(rounds: int) -> dict[str, float]:
    """Median seconds of each command over so many rounds, in turn, after one that warms up the disk."""
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as place:
        picture = Path(place) / "scene.png"
        Image.fromarray(render(random_scene(np.random.default_rng(0), "test"), 64)).save(picture)
        for number in range(rounds + 1):
            for name, command in commands(picture).items():
                start = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                if number:
                    found[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def lines(found: dict[str, float]) -> list[str]:
    """The table in Markdown, and the goals below it."""
    above = found["ask"] - found["torch"]
    told = [
        f"`unified ask`: {above:.2f} s above `import torch` {goal(above, ABOVE_TORCH, most=True, unit=' s')}",
        f"`unified info`: {found['info']:.2f} s {goal(found['info'], INFO, most=True, unit=' s')}",
    ]
    body = [(name, f"{found[key]:.2f} s") for key, name in NAMES.items()]
    return [*rows_of(("", "from start to end"), body), "", *(f"- {line}" for line in told)]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m unified.eval.bench.startup", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each command; the median counts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    found = measure(options.rounds)
    print(json.dumps(found) if options.json else "\n".join(lines(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
