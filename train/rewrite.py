"""What commands share that read a model and write it, changed, into another folder."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unified.command import Parser, run
from unified.model import UnifiedConfig, UnifiedModel
from unified.pretrained import find, load_model, save_model
from unified.stream.processor import Processor

Change = Callable[[UnifiedModel, Processor, argparse.Namespace], tuple[UnifiedModel, str]]


def parser(name: str, description: str) -> Parser:
    """With the options that say which model is read and where the new one goes."""
    made = Parser(prog=f"unified.train.{name}", description=description)
    made.add_argument("--model", help="a folder or hub name (default: the shipped model)")
    made.add_argument("--out", type=Path, required=True, help="folder of the new model")
    return made


def rewrite(parser: Parser, change: Change, arguments: Sequence[str] | None) -> int:
    """Load, `change` (a model and what there is to say of it), save. Errors of the user's making end in one
    line; the folder is written last."""

    def work(options: argparse.Namespace) -> int:
        try:
            if options.out.is_file():
                raise ValueError(f"{options.out} is a file: name a folder")
            model, processor = load_model(find(options.model))
            changed, said = change(model, processor, options)
            save_model(options.out, changed, processor)
        except ValueError as error:
            parser.error(str(error))
        print(f"Wrote {options.out}: {said}.")
        return 0

    options = parser.parse_args(arguments)
    return run(parser.prog, work, options, "interrupted, nothing was written")


def like(model: UnifiedModel, **changes: Any) -> UnifiedModel:
    """A model with fresh weights and the same configuration but for `changes`."""
    return UnifiedModel(UnifiedConfig.from_dict({**model.config.to_dict(), **changes}))
