"""`python -m unified.train RECIPE | prepare RECIPE | show RECIPE | list`, and the commands of `COMMANDS`,
which have options of their own. Exit status: see `unified.command`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unified.command import Parser
from unified.command import run as run_command
from unified.text_files import read_object

COMMANDS = {  # where the function of each command lives; imported only when it is called
    "prefer": "unified.train.preference.command:prefer",
    "pairs": "unified.train.preference.command:pairs",
}
DEEPSPEED = Path(__file__).parent / "deepspeed"
INTERRUPTED = "interrupted; the same command goes on where it stopped"
KERNELS = "20000"  # that oneDNN keeps: samples of every length have their own, and its 1024 are soon too few


def parser() -> argparse.ArgumentParser:
    root = Parser(prog="python -m unified.train", description="Train a tokenizer or a model.")
    verbs = (
        "RECIPE, `prepare RECIPE` (its data alone), `memory RECIPE` (what it needs), `show RECIPE` or `list`"
    )
    root.add_argument("recipe", nargs="+", help=verbs)
    root.add_argument("--override", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    root.add_argument("--out", type=Path, help="folder of the run (default: runs/RECIPE)")
    root.add_argument("--data", type=Path, help="folder of prepared ids (default: OUT/data)")
    root.add_argument("--resume", default="auto", help="auto (default), none, or the path of a checkpoint")
    root.add_argument("--deepspeed", metavar="NAME", help=f"a JSON file or one of {', '.join(shipped())}")
    root.add_argument("--fsdp", action="store_true", help="cut the model to pieces with FSDP2")
    root.add_argument("--gpus", type=int, default=1, help="of `memory`: number of processes (default 1)")
    root.add_argument(
        "--zero", type=int, default=0, help="of `memory`: stage of DeepSpeed's ZeRO (default 0)"
    )
    root.add_argument(
        "--measure", action="store_true", help="of `memory`: beside it what a step on the CPU holds"
    )
    root.add_argument("--workers", type=int, default=0, help="processes that make data (default: all cores)")
    root.add_argument("--loaders", type=int, default=0, help="processes that read data while training")
    root.add_argument("--compile", action="store_true", help="compile the decoder's layers (torch.compile)")
    root.add_argument("--cpu", action="store_true", help="leave GPUs alone")
    return root


def shipped() -> list[str]:
    """Names of the DeepSpeed configurations that come with the package."""
    return sorted(path.stem for path in DEEPSPEED.glob("*.json"))


def deepspeed_config(name: str) -> dict[str, Any]:
    """A shipped configuration by name, or a file. ValueError for neither."""
    path = DEEPSPEED / f"{name}.json" if name in shipped() else Path(name)
    if not path.is_file():
        raise ValueError(f"no DeepSpeed configuration {name!r}: give a JSON file or {', '.join(shipped())}")
    return read_object(path)


def main(arguments: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words and words[0] in COMMANDS:
        module, _, name = COMMANDS[words[0]].partition(":")
        return int(getattr(importlib.import_module(module), name)(words[1:]))
    return run_command("unified.train", _command, parser().parse_args(words), INTERRUPTED)


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
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    recipe = override(RECIPES[name](), options.override)
    if verb == "show":
        from unified.train.stored import to_json

        print(to_json(recipe), end="")
        return 0
    if verb == "memory":
        return _memory(recipe, options)
    return _run(verb, recipe, options)


def _memory(recipe: Any, options: argparse.Namespace) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would tell of itself
    from transformers.utils import logging
    from unified.train.memory import Plan, report
    from unified.train.recipe import ModelRecipe

    logging.set_verbosity_error()
    if not isinstance(recipe, ModelRecipe):
        raise ValueError(f"{recipe.name} is no model: there is nothing to plan")
    plan = Plan(gpus=options.gpus, zero=options.zero, fsdp=options.fsdp)
    report(recipe, plan, options.measure, (options.recipe[1], options.override))
    return 0


def _run(verb: str, recipe: Any, options: argparse.Namespace) -> int:
    quiet()
    from unified.train.recipe import ModelRecipe
    from unified.train.run import Machine, Workers, prepare_all, run

    resume = options.resume
    if resume not in ("auto", "none") and not Path(resume).is_dir():
        raise ValueError(f"no checkpoint at {resume}: --resume takes auto, none or the path of one")
    machine = Machine(
        out=options.out or Path("runs") / recipe.name,
        data=options.data,
        resume=resume,
        deepspeed=deepspeed_config(options.deepspeed) if options.deepspeed else None,
        fsdp=options.fsdp,
        workers=Workers(making=options.workers or os.cpu_count() or 1, reading=options.loaders),
        cpu=options.cpu,
        compile=options.compile,
    )
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


def quiet() -> None:
    """Settings of libraries for a run: they say nothing but errors and warnings of ours."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
    os.environ.setdefault("TQDM_DISABLE", "1")
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.showwarning = _warn


def _warn(message: Any, category: Any, *_: Any, **__: Any) -> None:
    """Warnings of ours in one line; those of libraries about themselves are left out."""
    if category is UserWarning and "checkpoint" in str(message):
        print(f"unified.train: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
