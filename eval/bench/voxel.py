"""Frames a second of the voxel world on one core, beside Crafter's in the same run.

    python -m unified.eval.bench.voxel [--seconds 3] [--output FILE.json] [--json]

One frame is one `step` with a random action, picture included. Crafter (Hafner 2021) is measured at its
default 64x64; without it (`pip install crafter`) its line is left out.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from unified.eval.bench.machine import machine, versions
from unified.eval.bench.table import goal

GOALS = {"64x64": 300, "640x360": 30}


def voxel_stepper(width: int, height: int) -> Callable[[], None]:
    """A function that takes one random step in a voxel world with pictures of that size."""
    from unified.envs.voxel import VoxelEnv

    env = VoxelEnv(width=width, height=height, max_steps=0, escape_ends=False)
    env.action_space.seed(0)
    # Camera turns within VPT's range, as an agent makes; the panel stays shut, since it hides the world.
    actions = [env.action_space.sample() for _ in range(500)]
    actions = [{**action, "inventory": 0, "camera": action["camera"] / 18} for action in actions]
    env.reset(seed=0)
    place = iter(range(10**12))
    return lambda: env.step(actions[next(place) % len(actions)]) and None


def crafter_stepper() -> Callable[[], None]:
    """The same for Crafter; starts anew when an episode ends."""
    import crafter

    env = crafter.Env(seed=0)
    rng = np.random.default_rng(0)
    env.reset()

    def step() -> None:
        if env.step(int(rng.integers(env.action_space.n)))[2]:
            env.reset()

    return step


def frame_rates(step: Callable[[], None], seconds: float) -> tuple[float, float]:
    """Frames per second of the clock and of processor time, after a warm-up that also compiles.

    The two differ when other programs share the core.
    """
    for _ in range(20):
        step()
    count, start, processor_start = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - start), count / (time.process_time() - processor_start)


def measure(seconds: float) -> dict[str, Any]:
    """The whole benchmark as plain data; rates are frames a second."""
    rates = {f"voxel {size}": frame_rates(voxel_stepper(*_parsed(size)), seconds) for size in GOALS}
    try:
        rates["crafter 64x64"] = frame_rates(crafter_stepper(), seconds)
    except ImportError:
        print("crafter is not installed (pip install crafter): its line is left out", file=sys.stderr)
    return {
        "frames_per_second": {name: round(clock, 1) for name, (clock, _) in rates.items()},
        "frames_per_processor_second": {name: round(busy, 1) for name, (_, busy) in rates.items()},
        "goals": {f"voxel {size}": goal for size, goal in GOALS.items()},
        "seconds_each": seconds,
        "machine": machine(),
        "versions": versions(),
    }


def lines(result: dict[str, Any]) -> list[str]:
    """One line for each figure, with its goal where there is one."""
    found = []
    for name, rate in result["frames_per_second"].items():
        bound, busy = result["goals"].get(name), result["frames_per_processor_second"][name]
        wanted = f" {goal(rate, bound)}" if bound else ""
        found.append(f"{name}: {rate:.1f} frames/s ({busy:.1f} per second of processor time){wanted}")
    return found


def _parsed(size: str) -> tuple[int, int]:
    width, height = size.split("x")
    return int(width), int(height)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m unified.eval.bench.voxel", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="time per measurement")
    parser.add_argument("--output", type=Path, help="also write the result as JSON")
    parser.add_argument("--json", action="store_true", help="print the result as JSON alone")
    options = parser.parse_args(arguments)
    if not 0 < options.seconds <= 600:
        parser.error(f"--seconds must lie above 0 and up to 600, got {options.seconds}")
    if options.output and not options.output.parent.is_dir():
        parser.error(f"--output: there is no folder {options.output.parent}")
    # Importing torch-free parts only, yet other libraries may start threads of their own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    result = measure(options.seconds)
    if options.json:
        print(json.dumps(result))
        return 0
    print("\n".join(lines(result)))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
