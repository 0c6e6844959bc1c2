"""`python -m unified.train RECIPE | prepare RECIPE | memory RECIPE | show RECIPE | list`, and `COMMANDS`,
which have options of their own. RECIPE is a name or a saved `recipe.json`. Exit status: see
`unified.command`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unified.train.machine_options import add_machine, deepspeed_config, machine_of, quiet, shipped

from unified.command import Parser
from unified.command import run as run_command

COMMANDS = {  # where the function of each command lives; imported only when it is called
    "fine-tune": "unified.train.fine_tune:fine_tune",
    "control": "unified.train.adapters.command:control",
    "upscale": "unified.train.adapters.command:upscale",
    "subject": "unified.train.adapters.command:subject",
    "prefer": "unified.train.preference.command:prefer",
    "pairs": "unified.train.preference.command:pairs",
    "erase": "unified.train.erase:erase",
    "tokenizer": "unified.train.tokenizer_command:tokenizer",
}
INTERRUPTED = "interrupted; the same command goes on where it stopped"

__all__ = ["COMMANDS", "call", "deepspeed_config", "leave_group", "main", "parser", "quiet", "shipped"]


def parser() -> argparse.ArgumentParser:
    commands = ", ".join(f"`{name} --help`" for name in COMMANDS)
    verbs = "`prepare RECIPE` (its data alone), `memory RECIPE` (what it needs), `show RECIPE` or `list`"
    root = Parser(prog="python -m unified.train", description="Train a tokenizer or a model.")
    root.add_argument("recipe", nargs="+", help=f"RECIPE (a name or a recipe.json), {verbs}; {commands}")
    root.add_argument("--out", type=Path, help="folder of the run (default: runs/RECIPE)")
    root.add_argument("--data", type=Path, help="folder of prepared ids (default: OUT/data)")
    root.add_argument("--gpus", type=int, default=1, help="of `memory`: number of processes (default 1)")
    root.add_argument(
        "--zero", type=int, default=0, help="of `memory`: stage of DeepSpeed's ZeRO (default 0)"
    )
    root.add_argument(
        "--measure", action="store_true", help="of `memory`: beside it what a step on the CPU holds"
    )
    add_machine(root)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else list(arguments)
    if "--cpu" in words:  # before DeepSpeed is imported: it looks for GPUs, and warns if there is none
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if words and words[0] in COMMANDS:
        return call(words[0], words[1:])
    return run_command("unified.train", _command, parser().parse_args(words), INTERRUPTED)


def call(name: str, arguments: Sequence[str]) -> int:
    """The exit status of one of `COMMANDS`, which says itself what is wrong."""
    module, _, function = COMMANDS[name].partition(":")
    return int(getattr(importlib.import_module(module), function)(arguments))


def _command(options: argparse.Namespace) -> int:
    from unified.train.override import override
    from unified.train.recipes import RECIPES

    words = options.recipe
    if words == ["list"]:
        for name, make in RECIPES.items():
            print(f"{name:18}{' '.join((make.__doc__ or '').split())}")
        return 0
    verb, name = ("train", words[0]) if len(words) == 1 else (words[0], words[1])
    if len(words) > 2 or verb not in ("train", "prepare", "memory", "show"):
        raise ValueError(f"expected RECIPE, prepare, memory or show RECIPE, or list, got {' '.join(words)!r}")
    recipe = override(recipe_named(name), options.override)
    if verb == "show":
        from unified.train.stored import to_json

        print(to_json(recipe), end="")
        return 0
    if verb == "memory":
        return _memory(recipe, options)
    return _run(verb, recipe, options)


def recipe_named(name: str) -> Any:
    """A recipe by name, or one that a run has saved. ValueError for neither."""
    from unified.train.recipe import RECIPE_KINDS
    from unified.train.recipes import RECIPES
    from unified.train.stored import from_json

    from unified.text_files import read_text

    if name in RECIPES:
        return RECIPES[name]()
    if not name.endswith(".json"):
        raise ValueError(
            f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}, or give a recipe.json"
        )
    try:
        return from_json(read_text(name), RECIPE_KINDS)
    except ValueError as error:
        raise ValueError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from None


def _memory(recipe: Any, options: argparse.Namespace) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would tell of itself
    from transformers.utils import logging
    from unified.train.memory import Plan, report
    from unified.train.recipe import ModelData, ModelRecipe, PreferenceRecipe

    from unified.file_names import SHIPPED_NAME

    logging.set_verbosity_error()
    if isinstance(recipe, PreferenceRecipe):  # planned as stages that go on from its start
        recipe = ModelRecipe(
            name=recipe.name,
            start=recipe.start or SHIPPED_NAME,
            data=ModelData(sources=()),
            model=None,
            stages=recipe.stages,
        )
    if not isinstance(recipe, ModelRecipe):
        raise ValueError(f"{recipe.name} is no model: there is nothing to plan")
    plan = Plan(gpus=options.gpus, zero=options.zero, fsdp=options.fsdp)
    report(recipe, plan, options.measure, (options.recipe[1], options.override))
    return 0


def _run(verb: str, recipe: Any, options: argparse.Namespace) -> int:
    from unified.train.recipe import ModelRecipe
    from unified.train.run import prepare_all, run

    machine = machine_of(options, options.out or Path("runs") / recipe.name, options.data)
    if verb == "prepare":
        if not isinstance(recipe, ModelRecipe):
            raise ValueError(f"{recipe.name} is no model: its data are made when it is trained")
        for name, found in prepare_all(recipe, machine).items():
            print(f"{name:20}{len(found):8} samples {int(found.lengths.sum()):11} ids")
        return 0
    result = run(recipe, machine)
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"wrote {result}")
    return 0


def leave_group() -> None:
    """Ends the process group, if one was begun: a process that exits with the group's threads still
    running is now and then aborted by the C++ runtime."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        leave_group()
