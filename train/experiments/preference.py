"""Preference tuning against continued supervised tuning, with the same start and the same number of updates.

    python -m unified.train.experiments.preference list
    python -m unified.train.experiments.preference ARM --start FOLDER --out docs/preference --minutes 40
    python -m unified.train.experiments.preference plot --out docs/preference

The start must be weakened or early, 40 to 75 % right (`--start FOLDER`; default: the shipped model with noise
on its weights, see `weakened`). An arm is tuned with three seeds; what it reaches is measured on the
validation split (never on the test split) by the task's own scorer, greedily and without guidance. `ARM.json`
is written when its seeds are done, or the minutes are over.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from unified.tasks.registry import make
from unified.train.experiments.supervised import supervised
from unified.train.machine import Machine
from unified.train.preference.on_policy import OnPolicy
from unified.train.preference.rewards import TaskReward
from unified.train.preference.sampling import Sampling, replies
from unified.train.preference.stage import PairData, PairTask, PreferenceOptions, PreferenceStage
from unified.train.recipe import OutputConfig, PreferenceRecipe
from unified.train.run import run
from unified.train.stage import BatchConfig, OptimisationConfig, ParameterConfig

from unified.pretrained import find, load_model, save_model

DRAW = PairTask(task="scene_draw", options={"most": 3, "categories": ["complete"], "textures": ["plain"]})
ABSENT = PairTask(task="scene_question", options={"most": 4})
SEEDS = (0, 1, 2)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything: `updates` of `batch` pairs; `samples` prompts with `answers` replies make the
    pairs; `measured` prompts of the validation split; `rows` replies at once."""

    updates: int = 150
    batch: int = 8
    samples: int = 400
    answers: int = 6
    measured: int = 128
    rows: int = 24


TOY = Sizes(updates=2, batch=2, samples=2, answers=2, measured=2, rows=4)
Arm = Callable[[Sizes], PreferenceStage | None]  # None: continued supervised tuning


def _stage(sizes: Sizes, source: PairTask, *, lora: int = 0, **options: Any) -> PreferenceStage:
    policy = OnPolicy(
        samples=sizes.samples, answers=sizes.answers, margin=0.2, sampling=Sampling(batch=sizes.rows)
    )
    rate = OptimisationConfig(learning_rate=2e-4 if lora else 2e-5, warmup=0, final=0.1, weight_decay=0.0)
    adapter: dict[str, Any] = {"trains": ("lora",), "adapter": lora} if lora else {}
    return PreferenceStage(
        steps=sizes.updates,
        pairs=PairData(source=source, on_policy=policy),
        batch=BatchConfig(rows=sizes.batch, micro_rows=min(sizes.batch, 4), length=16384),
        optimisation=rate,
        parameters=ParameterConfig(average=0.0, **adapter),
        preference=PreferenceOptions(**options),
    )


def draw_sum(sizes: Sizes) -> PreferenceStage | None:
    """Drawing, DPO on sums of log-probabilities."""
    return _stage(sizes, DRAW, weights="token", beta=0.05)


def draw_map(sizes: Sizes) -> PreferenceStage | None:
    """Drawing, every map of equal weight, with the likelihood of the chosen replies."""
    return _stage(sizes, DRAW, weights="map", beta=10.0, sft=0.1)


def draw_coarse(sizes: Sizes) -> PreferenceStage | None:
    """Drawing, coarse maps first, with the likelihood of the chosen replies."""
    return _stage(sizes, DRAW, weights="coarse_first", beta=10.0, sft=0.1)


def draw_lora(sizes: Sizes) -> PreferenceStage | None:
    """As draw_map, adapters of rank 16 alone."""
    return _stage(sizes, DRAW, lora=16, weights="map", beta=10.0, sft=0.1)


def draw_supervised(sizes: Sizes) -> PreferenceStage | None:
    """Drawing, as many updates of supervised tuning on the task's own answers."""
    return None


def absent_sum(sizes: Sizes) -> PreferenceStage | None:
    """Questions about scenes, absent objects among them, DPO on sums."""
    return _stage(sizes, ABSENT, weights="token", beta=0.1)


def absent_supervised(sizes: Sizes) -> PreferenceStage | None:
    """Questions about scenes, as many updates of supervised tuning."""
    return None


ARMS: dict[str, tuple[Arm, PairTask]] = {
    "draw_sum": (draw_sum, DRAW),
    "draw_map": (draw_map, DRAW),
    "draw_coarse": (draw_coarse, DRAW),
    "draw_lora": (draw_lora, DRAW),
    "draw_supervised": (draw_supervised, DRAW),
    "absent_sum": (absent_sum, ABSENT),
    "absent_supervised": (absent_supervised, ABSENT),
}


def right(folder: Path, source: PairTask, sizes: Sizes) -> float:
    """Share of validation prompts whose answer, greedy and without guidance, is all right."""
    model, processor = load_model(folder)
    task = make(source.task, **source.options)
    samples = [task.sample(number, "validation") for number in range(sizes.measured)]
    greedy = Sampling(temperature=0.0, batch=sizes.rows)
    answers = replies(model.fuse(), processor, samples, list(range(len(samples))), greedy)
    names = ("all",) if source.task == "scene_draw" else ("correct",)
    reward = TaskReward(task, names)
    found = [reward(sample, answer.content) for sample, answer in zip(samples, answers, strict=True)]
    return sum(found) / len(found)


def weakened(folder: Path | None, out: Path, noise: float, seed: int = 0) -> Path:
    """A model with normal noise on its decoder's matrices, of `noise` times the spread of each, in `out`."""
    if (out / "model.safetensors").is_file():
        return out
    model, processor = load_model(find(folder))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".layers." in name and parameter.ndim == 2:
                drawn = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise * parameter.std() * drawn)
    save_model(out, model, processor)
    return out


def run_arm(
    name: str, start: Path, work: Path, sizes: Sizes, *, minutes: float, cpu: bool = True
) -> dict[str, Any]:
    """The result of an arm: before, after for every seed that was begun within the minutes, and its logs."""
    arm, source = ARMS[name]
    began = time.monotonic()
    seeds: list[dict[str, Any]] = []
    before = right(start, source, sizes)
    for seed in SEEDS:
        if seeds and time.monotonic() - began > 60 * minutes:
            break
        out = work / f"{name}-{seed}"
        stage = arm(sizes)
        if stage is None:
            done = supervised(start, out, source, steps=sizes.updates, rows=sizes.batch, seed=seed)
            log: list[dict[str, Any]] = []
        else:
            policy = replace(stage.pairs.on_policy, seed=seed)
            stage = replace(stage, pairs=replace(stage.pairs, on_policy=policy))
            output = OutputConfig(
                log_every=max(1, sizes.updates // 10), save_every=sizes.updates, sheet_every=0
            )
            recipe = PreferenceRecipe(name=name, seed=seed, start=str(start), stages=(stage,), output=output)
            done = run(recipe, Machine(out=out, cpu=cpu))
            log = _log(out / "stages" / "0-dpo" / "log.jsonl")
        seeds.append({"seed": seed, "right": right(done, source, sizes), "log": log})
        print(f"{name}, seed {seed}: {before:.3f} -> {seeds[-1]['right']:.3f}", flush=True)
    return {
        "arm": name,
        "what": " ".join((arm.__doc__ or "").split()),
        "task": asdict(source),
        "sizes": asdict(sizes),
        "before": before,
        "seeds": seeds,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }


def _log(path: Path) -> list[dict[str, Any]]:
    """Margins, accuracy and likelihoods of the lines of a log."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = ("loss", "step", "rewards/margins", "rewards/accuracies")
    return [
        {key: value for key, value in line.items() if key in kept or key.startswith("logps/")}
        for line in lines
        if "loss" in line
    ]


def table(results: Sequence[dict[str, Any]]) -> str:
    """The results in Markdown: means over seeds, with the smallest and the largest."""
    lines = ["| arm | what | before | after (least to most) | seeds |", "|---|---|---|---|---|"]
    for result in results:
        found = [seed["right"] for seed in result["seeds"]]
        mean = sum(found) / len(found)
        spread = f"{mean:.1%} ({min(found):.1%} to {max(found):.1%})"
        lines.append(
            f"| {result['arm']} | {result['what']} | {result['before']:.1%} | {spread} | {len(found)} |"
        )
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m unified.train.experiments.preference")
    root.add_argument("arm", help=f"list, plot, or one of {', '.join(ARMS)}")
    root.add_argument("--start", type=Path, help="folder of the start (default: the shipped model, weakened)")
    root.add_argument("--noise", type=float, default=0.2, help="of the default start (0.2)")
    root.add_argument("--out", type=Path, default=Path("docs/preference"), help="folder of the results")
    root.add_argument("--work", type=Path, default=Path("runs/experiments"), help="folder of the runs")
    root.add_argument("--minutes", type=float, default=40.0, help="no seed is begun after them (40)")
    root.add_argument("--toy", action="store_true", help="in a minute, to see that everything works")
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        return _main(options)
    except (ValueError, OSError) as error:
        print(f"unified.train.experiments.preference: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _main(options: argparse.Namespace) -> int:
    from unified.train.machine_options import quiet

    if options.arm == "list":
        for name, (arm, _) in ARMS.items():
            print(f"{name:18} {' '.join((arm.__doc__ or '').split())}")
        return 0
    if options.arm == "plot":
        from unified.train.experiments.plots import plot

        results = [json.loads(path.read_text()) for path in sorted(options.out.glob("*.json"))]
        if not results:
            raise ValueError(f"{options.out}: no results of arms")
        (options.out / "table.md").write_text(table(results), encoding="utf-8")
        print(table(results), f"wrote {plot(results, options.out)}", sep="")
        return 0
    if options.arm not in ARMS:
        raise ValueError(f"unknown arm {options.arm!r}: choose list, plot or one of {', '.join(ARMS)}")
    quiet()
    start = options.start or weakened(None, options.work / f"start-{options.noise:g}", options.noise)
    sizes = TOY if options.toy else Sizes()
    result = run_arm(options.arm, start, options.work, sizes, minutes=options.minutes)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.arm}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table([result]), f"wrote {path}", sep="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
