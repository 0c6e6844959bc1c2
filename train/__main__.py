"""`python -m unified.train RECIPE | prepare RECIPE | show RECIPE | list`, and `COMMANDS`, which have options
of their own. RECIPE is a name or a saved `recipe.json`. Errors of the user's making end in one line and exit
status 2."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unified.train.machine_options import add_machine, machine_of

COMMANDS = {  # where the function of each command lives; imported only when it is called
    "fine-tune": "unified.train.fine_tune:fine_tune",
}


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="python -m unified.train", description="Train a tokenizer or a model."
    )
    commands = ", ".join(f"`{name} --help`" for name in COMMANDS)
    verbs = "RECIPE (a name or a recipe.json), `prepare RECIPE` (its data alone), `show RECIPE` (as JSON)"
    root.add_argument("recipe", nargs="+", help=f"{commands}; {verbs} or `list`")
    root.add_argument("--out", type=Path, help="folder of the run (default: runs/RECIPE)")
    root.add_argument("--data", type=Path, help="folder of prepared ids (default: OUT/data)")
    add_machine(root)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if words and words[0] in COMMANDS:
            return call(words[0], words[1:])
        return _command(parser().parse_args(words))
    except (ValueError, OSError, ImportError) as error:
        print(f"unified.train: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("unified.train: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


def call(name: str, arguments: Sequence[str]) -> int:
    """Run one of `COMMANDS`."""
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
    if len(words) > 2 or verb not in ("train", "prepare", "show"):
        raise ValueError(f"expected RECIPE, prepare RECIPE, show RECIPE or list, got {' '.join(words)!r}")
    recipe = override(_recipe(name), options.override)
    if verb == "show":
        from unified.train.stored import to_json

        print(to_json(recipe), end="")
        return 0
    return _run(verb, recipe, options)


def _recipe(name: str) -> Any:
    """A recipe by name, or one that a run has saved. ValueError for neither."""
    from unified.train.recipe import RECIPE_KINDS
    from unified.train.recipes import RECIPES
    from unified.train.stored import from_json

    if name in RECIPES:
        return RECIPES[name]()
    if not name.endswith(".json"):
        raise ValueError(
            f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}, or give a recipe.json"
        )
    try:
        return from_json(Path(name).read_text(encoding="utf-8"), RECIPE_KINDS)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


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


if __name__ == "__main__":
    sys.exit(main())
