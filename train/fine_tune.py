"""`python -m unified.train fine-tune --model FOLDER --data DIR_OR_FILE[:FORM] ... --out DIR`: goes on from a
model on data of one's own, without a line of Python.

It writes a recipe, whose shape and tokenizers are those of the model, and runs it: everything that holds
for recipes (resuming, several processes, DeepSpeed, LoRA, logs) holds here. `OUT/recipe.json` can be changed
and run again. The data are made first, so that an epoch is a number of steps and every sample is seen equally
often on average.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unified.train.lock import alone
from unified.train.machine_options import add_machine, machine_of
from unified.train.own_data import PREFERENCE, Data, DataOptions, read_argument, sources_of
from unified.train.recipe import ModelData, ModelRecipe, OutputConfig
from unified.train.stage import BatchConfig, OptimisationConfig, ParameterConfig, Stage, StageData

from unified.apps.commands.common import seed
from unified.command import Parser
from unified.command import run as run_command
from unified.file_names import SHIPPED_NAME
from unified.pretrained import find, load_processor

RATES = {"full": 2e-4, "lora": 1e-3}
MOST_EPOCHS = 1e6
SHORTEST = 1024  # ids of a row, unless a sample is longer
INTERRUPTED = "interrupted; the same command goes on where it stopped"
SHARED = ("model", "size", "steps", "learning_rate", "lora", "seed", "resume", "deepspeed")  # with `prefer`
UNSAID = (
    "data",
    "out",
    "rows",
    "micro_rows",
    "cpu",
    "workers",
)  # it takes them in other words, or needs none
FILLED = 0.97  # of a step's room, see `rows.FULL`


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    made = Parser(prog="python -m unified.train fine-tune", description="Train on your own data.")
    made.add_argument("--model", help="a folder or hub name (default: the shipped model)")
    forms = "a folder or file, with :FORM where it cannot be told, and NAME= before it (see docs/own_data.md)"
    made.add_argument(
        "--data", nargs="+", action="extend", required=True, metavar="[NAME=]PATH[:FORM]", help=forms
    )
    made.add_argument("--out", type=Path, required=True, help="folder of the run; the model is OUT/model")
    made.add_argument("--epochs", type=float, default=3.0, help="how often each sample is seen (default 3)")
    made.add_argument("--steps", type=int, help="optimiser steps, in place of epochs")
    made.add_argument("--rows", type=int, default=8, help="rows of ids in a step (default 8)")
    made.add_argument("--micro-rows", type=int, default=4, help="rows run at once: fewer need less memory")
    made.add_argument(
        "--length", type=int, help=f"ids in a row (default: the longest sample, at least {SHORTEST})"
    )
    made.add_argument("--learning-rate", type=float, help="default: 2e-4, with --lora 1e-3")
    made.add_argument("--lora", type=int, default=0, metavar="RANK", help="train adapters of this rank alone")
    made.add_argument(
        "--size", type=int, help="side of images in pixels (default: the largest the model draws)"
    )
    made.add_argument(
        "--validation", type=float, default=0.0, help="share of the records that is not learned"
    )
    made.add_argument("--skip-bad", action="store_true", help="leave bad records out in place of stopping")
    made.add_argument("--seed", type=seed, default=0)
    add_machine(made)
    return made


def fine_tune(arguments: Sequence[str]) -> int:
    """The command; its exit status."""
    return run_command("unified.train", _fine_tune, parser().parse_args(arguments), INTERRUPTED)


def _fine_tune(options: argparse.Namespace) -> int:
    """ValueError, in one line, before anything is made, for what cannot be trained on."""
    from unified.train.override import override
    from unified.train.run import check_same, run_alone

    _check(options)
    data = [read_argument(text) for text in options.data]
    find(options.model)
    if any(item.form == PREFERENCE for item in data):
        return _prefer(options, data)
    machine = machine_of(options, options.out)
    with alone(machine.out):
        recipe = override(recipe_of(options, data), options.override)
        if machine.resume == "auto" and (machine.out / "recipe.json").is_file():  # before data are made
            check_same(machine.out / "recipe.json", recipe, ("start", "seed", "data"))
        recipe = sized(recipe, machine, options)
        result = run_alone(override(recipe, options.override), machine)
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"wrote {result}")
    return 0


def _check(options: argparse.Namespace) -> None:
    """ValueError for a length of training that is none."""
    if not 0 < options.epochs <= MOST_EPOCHS:
        raise ValueError(f"--epochs must be above 0 and at most {MOST_EPOCHS:g}, got {options.epochs}")
    if options.steps is not None and options.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {options.steps}")


def _prefer(options: argparse.Namespace, data: Sequence[Data]) -> int:
    """Pairs of replies are learned by an objective of their own: `prefer` runs it with the same options."""
    from unified.train.preference.command import prefer

    if any(item.form != PREFERENCE for item in data):
        pairs = next(item.path for item in data if item.form == PREFERENCE)
        raise ValueError(
            f"{pairs}: pairs of replies are learned in a run of their own, not beside other data"
        )
    for name, value in vars(parser().parse_args(["--data", "-", "--out", "-"])).items():
        if name not in (*SHARED, *UNSAID) and getattr(options, name) != value:
            raise ValueError(
                f"{_option(name)} does not hold for pairs: see python -m unified.train prefer --help"
            )
    given = {name: getattr(options, name) for name in SHARED}
    words = [
        word for name, value in given.items() if value is not None for word in (_option(name), str(value))
    ]
    words += ["--batch", str(options.rows), "--micro", str(options.micro_rows)]
    words += ["--cpu"] if options.cpu else []
    return prefer(["--pairs", *(str(item.path) for item in data), "--out", str(options.out), *words])


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def recipe_of(options: argparse.Namespace, data: list[Data]) -> ModelRecipe:
    """The recipe of the options, of one step: `sized` gives it its length."""
    folder = find(options.model)
    size = largest(load_processor(folder)) if options.size is None else options.size
    shared = DataOptions(
        size=size, validation=options.validation, on_error="skip" if options.skip_bad else "raise"
    )
    sources = sources_of(data, shared)
    rate = RATES["lora" if options.lora else "full"]
    rate = rate if options.learning_rate is None else options.learning_rate
    length = SHORTEST if options.length is None else options.length
    parameters = ParameterConfig(average=0.0)
    if options.lora:
        parameters = ParameterConfig(trains=("lora",), adapter=options.lora, average=0.0)
    stage = Stage(
        name="fine-tune",
        steps=1,
        data=StageData(mixture={source.label: 1.0 for source in sources}),
        batch=BatchConfig(rows=options.rows, length=length, micro_rows=options.micro_rows),
        optimisation=OptimisationConfig(learning_rate=rate, warmup=0),
        parameters=parameters,
    )
    return ModelRecipe(
        name="fine-tune",
        seed=options.seed,
        start=options.model or SHIPPED_NAME,
        tokenizers=None,
        model=None,
        data=ModelData(sources=sources),
        stages=(stage,),
        output=OutputConfig(sheet_every=0),
    )


def largest(processor: Any) -> int:
    """The side in pixels of the largest square image that a model draws."""
    if processor.visual is None:
        return 64
    return int(processor.vocabulary.max_side * processor.visual.stride)


def sized(recipe: ModelRecipe, machine: Any, options: argparse.Namespace) -> ModelRecipe:
    """The recipe with the shares, the row length and the number of steps that its data ask for, which are
    made first. Prints what is there, and how many samples do not fit a row."""
    from unified.train.run import prepare_all
    from unified.train.settings import training_arguments

    arguments = training_arguments(recipe, machine, 0)  # joins the other processes, if any
    with arguments.main_process_first(local=False, desc="preparing data"):
        found = prepare_all(recipe, machine)
    stage: Any = recipe.stages[0]
    longest = max(int(part.lengths.max()) for part in found.values())
    length = options.length or max(SHORTEST, -(-longest // 16) * 16)
    ids = {name: int(part.lengths[part.lengths <= length].sum()) for name, part in found.items()}
    if arguments.process_index == 0:
        _tell(found, length)
    if not sum(ids.values()):
        raise ValueError(f"no sample fits a row of {length} ids: raise --length (the longest has {longest})")
    steps = options.steps or max(
        round(options.epochs * sum(ids.values()) / (stage.batch.rows * length * FILLED)), 1
    )
    stage = replace(
        stage,
        steps=steps,
        data=replace(stage.data, mixture={name: float(count) for name, count in ids.items()}),
        batch=replace(stage.batch, length=length),
        optimisation=replace(stage.optimisation, warmup=min(steps // 10, 20)),
    )
    every = max(min(steps // 5, 200), 1)
    output = replace(recipe.output, save_every=every, log_every=max(min(steps // 50, 20), 1))
    return replace(recipe, stages=(stage,), output=output)


def _tell(found: Mapping[str, Any], length: int) -> None:
    for name, part in found.items():
        left = int((part.lengths > length).sum())
        more = f", {left} longer than a row and left out" if left else ""
        print(f"{name}: {len(part)} samples, {int(part.lengths.sum())} ids{more}", flush=True)
