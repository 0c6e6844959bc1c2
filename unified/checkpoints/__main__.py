"""`python -m unified.checkpoints verify DIR`: recompute a golden folder and compare every tensor; `sizes`:
parameters and memory of what is released.

One line per tensor with its largest error and the tolerance. Exit status 0 only if all that is compared
agrees, 1 if not, 2 if the folder cannot be read (see `unified.command`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from unified.checkpoints.check import Check
from unified.checkpoints.folder import read_config
from unified.command import Parser, run
from unified.text_files import content_of

CASES = (
    "var_tokenizer",
    "flexvar_tokenizer",
    "cca_verify",
    "sar_verify",
    "var_verify",
    "flexvar_verify",
    "mineworld_actions",
    "mineworld_tokenizer_verify",
    "mineworld_verify",
    "infinity_tokenizer_verify",
    "varedit.verify",
    "nsarm.verify",
    "arbooth.verify",
    "csd_var_verify",
    "semaim.verify",
    "token_unify.verify",
    "infinity_verify",
    "scalekv_verify",
    "nar_verify",
    "llamagen_tokenizer_verify",
    "llamagen_verify",
    "latent_sketchpad_verify",
    "vargpt_verify",
    "core2_verify",
    "lantern.verify",
    "m3id_verify",
    "cspd.verify",
    "ear_verify",
    "flash.verify",
    "mar.head_verify",
    "mar.verify",
    "xar.verify",
    "acdit.verify",
    "himar.verify",
    "geneval_verify",
    "t2i_compbench_verify",
    "vtbench_verify",
    "rag_igbench_verify",
    "fvq.verify",
    "harmon.verify",
    "unipic.verify",
    "gigatok.verify",
    "orthus.verify",
    "tokenbridge.verify",
    "hita.verify",
    "larp.verify",
    "selftok.verify",
    "epona.verify",
)


def verify(folder: Path) -> Iterator[Check]:
    """The checks of a folder, by the first case whose `matches` knows its config. Unknown or broken:
    ValueError."""
    config = read_config(folder)
    for name in CASES:
        case = import_module(f"unified.checkpoints.{name}")
        if case.matches(config, folder):
            return case.verify(folder)
    raise ValueError(f"{folder}: config.json is of no known case ({', '.join(CASES)})")


def report(folder: Path) -> int:
    """Print the checks of one folder; the number that failed."""
    checks: list[Check] = []
    found = verify(folder)
    while True:
        with content_of(folder):  # what the files of a folder lead to is said of it
            check = next(found, None)
        if check is None:
            break
        print(check, flush=True)
        checks.append(check)
    counts = [sum(check.ok is state for check in checks) for state in (True, False, None)]
    print(f"{folder}: {counts[0]} agree, {counts[1]} differ, {counts[2]} not compared")
    if not counts[0] + counts[1]:
        raise ValueError(f"{folder}: nothing to compare")
    return counts[1]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m unified.checkpoints")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("verify", help="recompute golden folders and compare")
    command.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    commands.add_parser("sizes", help="parameters and memory of the released models")
    options = parser.parse_args(arguments)
    return run("unified.checkpoints", _verify if options.command == "verify" else _sizes, options)


def _verify(options: argparse.Namespace) -> int:
    failures = [report(folder) for folder in options.folders]
    return 1 if any(failures) else 0


def _sizes(options: argparse.Namespace) -> int:
    from unified.checkpoints.sizes import lines

    print("\n".join(lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
