"""Preference tuning against continued supervised tuning, with the same start and the same number of updates.

    python -m unified.train.experiments.preference list
    python -m unified.train.experiments.preference ARM --start FOLDER --out docs/preference --minutes 40
    python -m unified.train.experiments.preference plot --out docs/preference

The start must be weakened or early, 40 to 75 % right (`--start FOLDER`; default: the shipped model with noise
on its weights, see `weakened`). An arm is tuned with three seeds; what it reaches is measured on the
validation split (never on the test split) by the task's own scorer, greedily and without guidance; the start
is measured with guidance, too. `ARM.json` is written when its seeds are done, or the minutes are over.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from unified.train.experiments.arms import ARMS, TOY, Arm, Sizes, Trial, reward_of, settings
from unified.train.preference.sampling import Sampling, replies

from unified.pretrained import find, load_model, save_model

SEEDS = (0, 1, 2)
GUIDANCE = 3.0


def right(folder: Path, arm: Arm, sizes: Sizes, guidance: float = 1.0) -> float:
    """Share of validation prompts whose answer, greedy, is all right."""
    model, processor = load_model(folder)
    reward = reward_of(arm)
    samples = [reward.task.sample(number, "validation") for number in range(sizes.measured)]
    greedy = Sampling(temperature=0.0, guidance=guidance, batch=sizes.rows)
    answers = replies(model.fuse(), processor, samples, list(range(len(samples))), greedy)
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


def _before(start: Path, arm: Arm, sizes: Sizes, work: Path) -> list[float | None]:
    """What the start reaches, without and (drawings alone) with guidance: measured once for all arms."""
    path = work / f"before-{arm.source.task}-{sizes.measured}.json"
    if not path.is_file():
        guided = right(start, arm, sizes, GUIDANCE) if arm.source.task == "scene_draw" else None
        path.write_text(json.dumps([right(start, arm, sizes), guided]), encoding="utf-8")
    found: list[float | None] = json.loads(path.read_text(encoding="utf-8"))
    return found


def run_arm(
    name: str, start: Path, work: Path, sizes: Sizes, *, minutes: float, cpu: bool = True
) -> dict[str, Any]:
    """The result of an arm: before, after for every seed that was begun within the minutes, and its logs."""
    arm = ARMS[name]
    began = time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    seeds: list[dict[str, Any]] = []
    before, guided = _before(start, arm, sizes, work)
    for seed in SEEDS:
        if seeds and time.monotonic() - began > 60 * minutes:
            break
        trial = Trial(
            start=start,
            out=work / f"{name}-{seed}",
            pairs=work / "pairs",
            source=arm.source,
            category=arm.category,
            sizes=sizes,
            seed=seed,
            cpu=cpu,
        )
        tuned = arm.tune(trial)
        seeds.append({"seed": seed, "right": right(tuned.model, arm, sizes), "log": tuned.log})
        print(f"{name}, seed {seed}: {before:.3f} -> {seeds[-1]['right']:.3f}", flush=True)
    return {
        "arm": name,
        "what": arm.what,
        "task": asdict(arm.source),
        "category": arm.category,
        "sizes": asdict(sizes),
        "before": before,
        "before_guided": guided,
        "seeds": seeds,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """The results in Markdown: means over seeds, with the smallest and the largest."""
    lines = [
        "| arm | what | before | before, guided | after (least to most) | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        found = [seed["right"] for seed in result["seeds"]]
        mean, guided = sum(found) / len(found), result.get("before_guided")
        cells = [
            result["arm"],
            result["what"],
            f"{result['before']:.1%}",
            "-" if guided is None else f"{guided:.1%}",
            f"{mean:.1%} ({min(found):.1%} to {max(found):.1%})",
            str(len(found)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m unified.train.experiments.preference")
    root.add_argument("arm", help=f"list, plot, or one of {', '.join(ARMS)}")
    root.add_argument("--start", type=Path, help="folder of the start (default: the shipped model, weakened)")
    root.add_argument("--noise", type=float, default=0.5, help="of the default start (0.5)")
    root.add_argument("--out", type=Path, default=Path("docs/preference"), help="folder of the results")
    root.add_argument("--work", type=Path, default=Path("runs/experiments"), help="folder of the runs")
    root.add_argument("--minutes", type=float, default=40.0, help="no seed is begun after them (40)")
    root.add_argument("--updates", type=int, help=f"updates of every arm ({Sizes().updates})")
    root.add_argument("--batch", type=int, help=f"pairs or rows an update ({Sizes().batch})")
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
        for name, arm in ARMS.items():
            print(f"{name:18} {arm.what}")
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
    sizes = settings(TOY if options.toy else Sizes(), updates=options.updates, batch=options.batch)
    result = run_arm(options.arm, start, options.work, sizes, minutes=options.minutes)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.arm}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table([result]), f"wrote {path}", sep="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
