"""Running of experiments: every arm of every seed once, its result written when it is done.

`RESULTS/NAME/ARM-SEED.json` holds the numbers with the commit, the hash of the configuration and of the
ground's weights, the seed, machine and seconds. A run that was stopped goes on with what is missing; arms
that train go on from their own checkpoints. A result of another configuration or other weights is made anew.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from unified.eval.bench.machine import machine, versions
from unified.eval.lab.experiment import Experiment, Results, Trial
from unified.eval.lab.experiments import EXPERIMENTS
from unified.eval.lab.ground.ground import Ground
from unified.eval.lab.papers import check_paper
from unified.train.stored import write_text

from unified import __version__


def find(name: str) -> Experiment:
    """A registered experiment. ValueError for another name."""
    check_paper(name)
    return EXPERIMENTS[name]


def run(name: str, ground: Ground, seeds: Sequence[int], out: Path, work: Path) -> Results:
    """Run what is missing of an experiment and return all of it."""
    experiment = find(name)
    known = config_hash(experiment, ground)
    todo = [(seed, arm) for seed in seeds for arm in experiment.arms]
    bar = tqdm(todo, name, file=sys.stderr, disable=None)
    for seed, arm in bar:
        bar.set_postfix_str(f"{arm}, seed {seed}")
        path = out / name / f"{arm}-{seed}.json"
        if not _is_done(path, known):
            if bar.disable:
                print(f"{name}: {arm}, seed {seed} ...", file=sys.stderr, flush=True)
            _measure(experiment, arm, seed, ground, path, work / name / known, known)
    return read(name, out)


def _measure(
    experiment: Experiment, arm: str, seed: int, ground: Ground, path: Path, work: Path, known: str
) -> None:
    began = time.monotonic()
    torch.manual_seed(seed)
    trial = Trial(ground=ground, seed=seed, work=work / f"{arm}-{seed}")
    numbers = plain(experiment.arms[arm](trial))
    result = {
        "experiment": experiment.name,
        "arm": arm,
        "seed": seed,
        "numbers": numbers,
        "config": known,
        "weights": ground.hash(),
        "sizes": asdict(ground.sizes),
        "commit": commit(),
        "seconds": round(time.monotonic() - began, 1),
        "threads": torch.get_num_threads(),
        "machine": machine(),
        "versions": versions(),
    }
    write(path, result)


def read(name: str, out: Path) -> Results:
    """All results of an experiment, those of one configuration: that of most files. ValueError, naming the
    file, for one that is none."""
    entries = raw(name, out)
    usual = Counter(entry["config"] for entry in entries).most_common(1)
    kept = [entry for entry in entries if entry["config"] == usual[0][0]]
    return Results(
        {
            arm: {entry["seed"]: entry["numbers"] for entry in kept if entry["arm"] == arm}
            for arm in find(name).arms
        }
    )


def raw(name: str, out: Path) -> list[dict[str, Any]]:
    """The files of an experiment as they are."""
    found = []
    for path in sorted((out / name).glob("*-*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            result["arm"], result["seed"], result["numbers"], result["config"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} is no result of an experiment") from None
        found.append(result)
    return found


def config_hash(experiment: Experiment, ground: Ground) -> str:
    """Twelve hexadecimal digits of the sizes, the weights and what the experiment's own file says, however
    it is laid out."""
    module = inspect.getmodule(experiment.judge)
    source = ast.dump(ast.parse(inspect.getsource(module))) if module else ""
    content = json.dumps({"sizes": asdict(ground.sizes), "weights": ground.hash(), "source": source})
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def commit() -> str:
    """The commit of this checkout; of an installed package its version."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return f"version {__version__}"
    return done.stdout.strip()


def write(path: Path, result: dict[str, Any]) -> None:
    """A result, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(result, indent=1, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """As JSON: tensors and arrays as lists, numbers that are not finite as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, torch.Tensor | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _is_done(path: Path, known: str) -> bool:
    if not path.is_file():
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return bool(found.get("config") == known)
