"""Speed on a CUDA GPU: text, images, packed batches, training and imagined frames at 300M parameters.

    python -m unified.eval.bench.gpu [--only sessions passes training world] [--out FILE]
    python -m unified.eval.bench.gpu --dry-run

Tokens and images a second of sessions by SDPA and, where flash-attn is installed, by flash-attention;
tokens a second of packed batches by SDPA and by FlexAttention; the same of training, with its utilisation of
the GPU's peak; frames a second of a world model of 300M parameters at 224 x 384 pixels. `--dry-run` runs
every measurement once at toy size, on a GPU or not, and prints no figure.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from unified.eval.bench.gpu_cases import GROUPS, TOY, Rates, Size
from unified.eval.bench.machine import versions

from unified.apps.commands.common import check_target
from unified.command import Parser, run

UNITS = {
    "tokens_per_second": "tokens/s",
    "images_per_second": "images/s",
    "frames_per_second": "frames/s",
    "utilisation": "of the peak",
}


def measure(groups: Sequence[str], size: Size, device: torch.device, *, show: bool) -> dict[str, Rates]:
    """By name of a row its rates; a group that the memory is too small for ends there, with a line. `show`:
    whether rates are printed as they come, or the names alone."""
    found: dict[str, Rates] = {}
    for group in groups:
        try:
            for name, rates in GROUPS[group](size, device):
                found[name] = rates
                print(line(name, rates) if show else f"{name}: ran", flush=True)
        except torch.OutOfMemoryError:
            print(f"{group}: the memory of this GPU is too small for the rest of it", file=sys.stderr)
            torch.cuda.empty_cache()
    return found


def line(name: str, rates: Rates) -> str:
    """One row as it is printed."""
    return f"{name}: " + ", ".join(f"{_rounded(rate)} {UNITS[unit]}" for unit, rate in rates.items())


def _rounded(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = Parser(prog="python -m unified.eval.bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=tuple(GROUPS), default=list(GROUPS))
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--dry-run", action="store_true", help="once at toy size, without figures")
    return run(parser.prog, _measure, parser.parse_args(arguments))


def _measure(options: argparse.Namespace) -> int:
    if options.out is not None:
        check_target(options.out)
    if options.dry_run:
        if options.out is not None:
            raise ValueError("a dry run has no figures to write: leave out --out or --dry-run")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        print(f"Dry run at toy size on {device.type}: nothing is measured.")
        measure(options.only, TOY, device, show=False)
        return 0
    if not torch.cuda.is_available():
        raise ValueError("there is no CUDA GPU here: --dry-run runs every measurement at toy size")
    device = torch.device("cuda")
    report: dict[str, Any] = {"gpu": torch.cuda.get_device_name(device), "versions": versions()}
    print(report["gpu"])
    report["rates"] = measure(options.only, Size(), device, show=True)
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
