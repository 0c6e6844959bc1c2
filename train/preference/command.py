"""`python -m unified.train prefer` and `python -m unified.train pairs`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unified.apps.commands.common import seed
from unified.command import Parser
from unified.command import run as run_command

LEARNING_RATE = 1e-6
INTERRUPTED = "interrupted; the same command goes on where it stopped"


def prefer_parser() -> argparse.ArgumentParser:
    root = Parser(prog="python -m unified.train prefer", description="Preference tuning of a finished model.")
    root.add_argument("--model", default="", metavar="FOLDER", help="default: the shipped model")
    root.add_argument("--pairs", nargs="+", default=[], metavar="PATH", help="files or datasets of pairs")
    root.add_argument("--images", default="", help="folder of the images that pairs name (default: theirs)")
    root.add_argument("--size", type=int, help="cut images to squares of so many pixels")
    _add_task(root)
    root.add_argument("--rounds", type=int, default=1, help="with --task: new pairs in each (default 1)")
    root.add_argument("--out", type=Path, default=Path("runs/prefer"), help="folder of the run")
    root.add_argument("--steps", type=int, default=200, help="optimiser steps (of a round; default 200)")
    root.add_argument("--batch", type=int, default=16, help="pairs a step (default 16)")
    root.add_argument("--micro", type=int, default=4, help="pairs at once (default 4)")
    root.add_argument("--learning-rate", type=float, default=LEARNING_RATE, help=f"default {LEARNING_RATE}")
    root.add_argument("--beta", type=float, default=0.1, help="of the divergence (default 0.1)")
    root.add_argument("--loss", nargs="+", default=["sigmoid"], help="of TRL's losses (default sigmoid)")
    root.add_argument("--loss-weights", nargs="+", type=float, default=[], metavar="W")
    root.add_argument(
        "--label-smoothing", type=float, default=0.0, metavar="S", help="of robust, exo_pair, aot"
    )
    root.add_argument("--weights", default="token", help="token (default), mean, map or coarse_first")
    root.add_argument("--sft", type=float, default=0.0, help="weight of the likelihood of chosen replies")
    root.add_argument("--reference", default="copy", help="copy (default) or precomputed")
    root.add_argument("--lora", type=int, default=0, metavar="RANK", help="train adapters alone")
    root.add_argument("--save-every", type=int, default=100, metavar="STEPS")
    root.add_argument("--bf16", action="store_true", help="run layers in bfloat16")
    root.add_argument("--seed", type=seed, default=0)
    root.add_argument("--resume", default="auto", help="auto (default), none, or the path of a checkpoint")
    root.add_argument("--deepspeed", metavar="NAME", help="a JSON file or a shipped configuration")
    root.add_argument("--cpu", action="store_true", help="leave GPUs alone")
    return root


def pairs_parser() -> argparse.ArgumentParser:
    root = Parser(
        prog="python -m unified.train pairs", description="On-policy pairs: the best and worst of N replies."
    )
    root.add_argument("--model", default="", metavar="FOLDER", help="default: the shipped model")
    _add_task(root)
    root.add_argument("--data", type=Path, metavar="FOLDER", help="prompts of what `tasks build` wrote")
    root.add_argument("--out", type=Path, default=Path("pairs.jsonl"))
    root.add_argument("--seed", type=seed, default=0)
    root.add_argument("--cpu", action="store_true", help="leave GPUs alone")
    cluster = 'address of a Ray cluster that draws the replies: auto, HOST:PORT, or "local" to start one'
    root.add_argument("--ray", metavar="ADDRESS", help=cluster)
    of_cluster = "of --ray: processes (default: one for each GPU or, without any, each processor)"
    root.add_argument("--workers", type=int, metavar="N", help=of_cluster)
    return root


def _add_task(root: argparse.ArgumentParser) -> None:
    task = root.add_argument_group("on-policy pairs")
    task.add_argument("--task", default="", metavar="NAME", help="whose prompts are answered and scored")
    task.add_argument("--options", default="{}", metavar="JSON", help="options of the task")
    task.add_argument("--scores", nargs="+", default=[], metavar="NAME", help="their mean is the reward")
    task.add_argument("--following", default="", metavar="FILE", help="inverse dynamics model, for frames")
    task.add_argument("--samples", type=int, default=256, help="prompts (default 256)")
    task.add_argument("--answers", type=int, default=8, help="replies to each (default 8)")
    task.add_argument("--margin", type=float, default=0.1, help="least gap of scores (default 0.1)")
    task.add_argument("--first", type=int, default=0, help="number of the first prompt (default 0)")
    task.add_argument("--truth", action="store_true", help="the task's own answer is the chosen one")
    task.add_argument("--temperature", type=float, default=1.0)
    task.add_argument("--top-p", type=float, default=0.0)
    task.add_argument("--guidance", type=float, default=1.0, help="scale, 1 (default): off")
    task.add_argument("--rows", type=int, default=16, help="replies at once (default 16)")
    task.add_argument("--max-tokens", type=int, default=256, help="ids of text in a reply (default 256)")


def prefer(arguments: Sequence[str]) -> int:
    return run_command("unified.train", _prefer, prefer_parser().parse_args(arguments), INTERRUPTED)


def pairs(arguments: Sequence[str]) -> int:
    return run_command("unified.train", _pairs, pairs_parser().parse_args(arguments), INTERRUPTED)


def _prefer(options: argparse.Namespace) -> int:
    from unified.train.machine import Machine, Sharding
    from unified.train.machine_options import deepspeed_config, quiet, resume_of
    from unified.train.run import run

    recipe = recipe_of(options)
    quiet()
    machine = Machine(
        out=options.out,
        resume=resume_of(options.resume),
        sharding=Sharding(deepspeed=deepspeed_config(options.deepspeed) if options.deepspeed else None),
        cpu=options.cpu,
    )
    result = run(recipe, machine)
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"wrote {result}")
    return 0


def recipe_of(options: argparse.Namespace) -> Any:
    """The recipe that the options of `prefer` spell."""
    from unified.train.preference.stage import PairData, PreferenceOptions, PreferenceStage
    from unified.train.recipe import OutputConfig, PreferenceRecipe
    from unified.train.stage import BatchConfig, OptimisationConfig, ParameterConfig

    if bool(options.pairs) == bool(options.task):
        raise ValueError("give --pairs FILE ... or --task NAME")
    data = PairData(
        files=tuple(options.pairs),
        images=options.images,
        size=options.size,
        source=_pair_task(options) if options.task else None,
        on_policy=_on_policy(options),
        rounds=options.rounds,
    )
    rate = OptimisationConfig(learning_rate=options.learning_rate, warmup=0, final=0.1, weight_decay=0.0)
    lora: dict[str, Any] = {"trains": ("lora",), "adapter": options.lora} if options.lora else {}
    stage = PreferenceStage(
        steps=options.steps,
        pairs=data,
        batch=BatchConfig(rows=options.batch, micro_rows=options.micro, length=16384, bf16=options.bf16),
        optimisation=rate,
        parameters=ParameterConfig(average=0.0, **lora),
        preference=PreferenceOptions(
            beta=options.beta,
            losses=tuple(options.loss),
            loss_weights=tuple(options.loss_weights),
            label_smoothing=options.label_smoothing,
            weights=options.weights,
            sft=options.sft,
            reference=options.reference,
        ),
    )
    output = OutputConfig(log_every=1, save_every=options.save_every, sheet_every=0)
    return PreferenceRecipe(seed=options.seed, start=options.model, stages=(stage,), output=output)


def _pairs(options: argparse.Namespace) -> int:
    from unified.tasks.registry import make
    from unified.train.preference.asking import Asked
    from unified.train.preference.on_policy import Tally, write_pairs

    from unified.pretrained import find

    if not options.task:
        raise ValueError("give --task NAME: whose prompts are answered and scored")
    if options.out.is_dir():
        raise ValueError(f"{options.out} is a folder: name a file")
    if options.workers is not None and (options.workers < 1 or options.ray is None):
        raise ValueError("--workers is a number of at least 1, of the processes of --ray")
    source, config = _pair_task(options), _on_policy(options)
    make(source.task, **source.options)  # refuses bad options here, and not in another process
    asked = Asked(find(options.model or None), source, config, options.data, options.cpu)
    tally = Tally()
    made = asked.pairs(tally) if options.ray is None else asked.on_ray(options.ray, options.workers, tally)
    count = write_pairs(options.out, made)
    print(f"{options.out}: {tally}")
    if not count:
        raise ValueError(f"no two replies lie {config.margin} apart: lower --margin or raise --answers")
    return 0


def _pair_task(options: argparse.Namespace) -> Any:
    from unified.train.preference.stage import PairTask

    try:
        given = json.loads(options.options)
    except ValueError as error:
        raise ValueError(f"--options is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise ValueError('--options must be an object such as {"most": 3}')
    return PairTask(
        task=options.task, options=given, scores=tuple(options.scores), following=options.following
    )


def _on_policy(options: argparse.Namespace) -> Any:
    from unified.train.preference.on_policy import OnPolicy
    from unified.train.preference.sampling import Sampling

    sampling = Sampling(
        temperature=options.temperature,
        top_p=options.top_p,
        guidance=options.guidance,
        batch=options.rows,
        max_tokens=options.max_tokens,
    )
    names = ("samples", "answers", "margin", "first", "truth", "seed")
    return OnPolicy(sampling=sampling, **{name: getattr(options, name) for name in names})
