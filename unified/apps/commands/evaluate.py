"""`unified eval`: measure a model on held-out data."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from datetime import UTC, datetime
from typing import Any

import torch

from unified.apps.commands.common import check_folder, own_assistant
from unified.pretrained import SHIPPED


def evaluate(options: argparse.Namespace) -> int:
    """Run the suites that were named, print their tables and write the report."""
    try:
        from unified.eval.measurement import Run, Stopwatch
        from unified.eval.report import as_json, goal_lines, table_lines, write_report
        from unified.eval.suites import SUITES
    except ImportError as error:
        raise ImportError(
            f"evaluation needs the extras: pip install 'unified-multimodal[worlds,eval]' ({error})"
        ) from None
    if options.suites[:1] == ["tokenizer"] and any(name not in SUITES for name in options.suites[1:]):
        from unified.apps.commands.evaluate_tokenizers import evaluate_tokenizers

        return evaluate_tokenizers(options)
    if options.suite:
        raise ValueError("--suite chooses what `eval tokenizer FOLDER ...` measures: name folders there")
    names = list(dict.fromkeys(options.suites)) or list(SUITES)
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        raise ValueError(f"unknown suite {unknown[0]!r}: choose from {', '.join(SUITES)}")
    for path in (options.inverse, *(options.lpips or ())):
        if path is not None and not path.is_file():
            raise ValueError(f"{path}: no such file")
    if options.recordings is not None:
        _check_recordings(options, names)
    check_folder(options.out).mkdir(parents=True, exist_ok=True)  # asked before the work begins
    model = own_assistant(options)
    run = Run(
        assistant=model,
        count=options.count,
        batch=options.batch,
        split=options.split,
        inverse=options.inverse,
        lpips=tuple(options.lpips) if options.lpips else None,
        recordings=options.recordings,
    )
    results = {}
    header = describe_run(options, model)
    for name in names:
        watch = Stopwatch()
        print(f"{name} ...", file=sys.stderr, flush=True)
        results[name] = SUITES[name](run)
        results[name].seconds = watch.seconds
        write_report(options.out, header, results)  # after every suite, so that nothing is lost
        if not options.json:
            for table in results[name].tables:
                print(f"\n{table.title}\n" + "\n".join(table_lines(table)))
            print("".join(f"\n{note}" for note in results[name].notes))
    goals = [goal for result in results.values() for goal in result.goals]
    if options.json:
        suites = {name: as_json(result) for name, result in results.items()}
        print(json.dumps({**header, "suites": suites}))
    else:
        print("\nGoals\n" + "\n".join(goal_lines(goals)))
        print(f"\nWrote {options.out / 'report.md'}, report.json and pictures in the same folder.")
    return 0


def _check_recordings(options: argparse.Namespace, names: list[str]) -> None:
    """ValueError for a folder without recordings, other suites than `world`, and what is not measured."""
    from unified.envs.recordings import find_recordings

    if names != ["world"]:
        raise ValueError("--recordings is for the suite world: unified eval world --recordings DIR")
    if options.inverse is not None:
        raise ValueError("action following is of the voxel world: give --recordings without --inverse")
    find_recordings(options.recordings)


def describe_run(options: argparse.Namespace, model: Any) -> dict[str, Any]:
    """What a number needs to be repeated: model, data, machine, versions."""
    from unified.eval.bench.machine import machine, versions

    return {
        "model": "shipped with the package" if model.folder == SHIPPED else str(model.folder),
        "weights": weights_hash(model.model),
        "parameters": sum(p.numel() for part in (model.model, model.visual) for p in part.parameters()),
        "device": str(model.model.device),
        "dtype": str(model.model.dtype).removeprefix("torch."),
        "seed": options.seed,
        "split": options.split,
        "count": options.count,
        **({"recordings": str(options.recordings)} if options.recordings else {}),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
    }


def weights_hash(model: torch.nn.Module) -> str:
    """Twelve hexadecimal digits that change when a weight does."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
