"""Frames a second of the vector environments by number of rows: imagined ones, and voxel worlds.

    python -m unified.eval.bench.worlds [--rows 1 4 16] [--seconds 3] [--json]

One frame is one row of one `step`, as an agent gets it: sampled, with likelihood and picture. Every row is a
whole episode; frames are timed when the window is full.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from unified.eval.bench.table import goal

from unified.apps.loading import load

ROWS = (1, 4, 16)
MANY, GOAL = 16, 4.0  # rows, and times the frames of one
WALK: dict[str, Any] = {"forward": 1, "camera": [0.0, 3.0]}
WARM_UP = 6  # steps: the window of the dream is full, and what is compiled has been


def dream(rows: int, model: str | None = None) -> VectorEnv:
    """Rows of the shipped model, or another, that start from one picture."""
    from unified.envs.world_model import WorldModelVectorEnv

    assistant = load(model)
    picture = np.random.default_rng(0).integers(0, 256, (assistant.side, assistant.side, 3), dtype=np.uint8)
    return WorldModelVectorEnv(rows, assistant, picture, undo=0)


def voxel(rows: int, model: str | None = None) -> VectorEnv:
    """Rows of voxel worlds of 64 x 64 pixels."""
    from unified.envs.voxel import VoxelVectorEnv

    return VoxelVectorEnv(rows, max_steps=0)


KINDS: dict[str, Callable[..., VectorEnv]] = {"imagined": dream, "voxel": voxel}


def rate(env: VectorEnv, seconds: float) -> float:
    """Frames a second over at least `seconds` and one window."""
    env.reset(seed=0)
    actions = [WALK] * env.num_envs
    for _ in range(WARM_UP):
        env.step(actions)  # type: ignore[arg-type]
    start, steps = time.perf_counter(), 0
    while steps < WARM_UP or time.perf_counter() - start < seconds:
        env.step(actions)  # type: ignore[arg-type]
        steps += 1
    return steps * env.num_envs / (time.perf_counter() - start)


def measure(rows: Sequence[int], seconds: float, model: str | None = None) -> dict[str, float]:
    """Frames a second, by kind and number of rows."""
    found = {}
    for kind, make in KINDS.items():
        for count in rows:
            env = make(count, model)
            found[f"{kind} x{count}"] = rate(env, seconds)
            env.close()
    return found


def lines(measured: dict[str, float]) -> list[str]:
    """One line for each figure, then the goal of many imagined rows beside one."""
    found = [f"vector environment, {name}: {value:.1f} frames/s" for name, value in measured.items()]
    one, many = (measured.get(f"imagined x{rows}") for rows in (1, MANY))
    if one and many:
        told = f"{many / one:.2f} times the frames of one row {goal(many / one, GOAL)}"
        found.append(f"vector environment, imagined x{MANY}: {told}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m unified.eval.bench.worlds", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", help="a folder (default: the shipped model)")
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--seconds", type=float, default=3.0, help="time per figure, at least")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if min(*options.rows, options.threads) < 1 or not options.seconds > 0:
        parser.error("--rows and --threads must be at least 1, --seconds positive")
    torch.set_num_threads(options.threads)
    try:
        measured = measure(options.rows, options.seconds, options.model)
    except ValueError as error:
        parser.error(str(error))
    print(json.dumps({"frames_per_second": measured}) if options.json else "\n".join(lines(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
