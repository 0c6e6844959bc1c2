"""Options of the command line that say where and on how many devices a recipe runs."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unified.text_files import read_object

DEEPSPEED = Path(__file__).parent / "deepspeed"
KERNELS = "20000"  # that oneDNN keeps: samples of every length have their own, and its 1024 are soon too few


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add them, without `--out`."""
    parser.add_argument("--override", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument("--resume", default="auto", help="auto (default), none, or the path of a checkpoint")
    parser.add_argument("--deepspeed", metavar="NAME", help=f"a JSON file or one of {', '.join(shipped())}")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that make data (default: all cores)"
    )
    parser.add_argument("--fsdp", action="store_true", help="cut the model to pieces with FSDP2")
    parser.add_argument("--loaders", type=int, default=0, help="processes that read data while training")
    parser.add_argument("--compile", action="store_true", help="compile the decoder's layers (torch.compile)")
    parser.add_argument("--cpu", action="store_true", help="leave GPUs alone")


def machine_of(options: argparse.Namespace, out: Path, data: Path | None = None) -> Any:
    """The `Machine` that they describe, with the libraries' own talk turned down. ValueError for a checkpoint
    or a DeepSpeed configuration that is not there."""
    quiet()
    from unified.train.machine import Machine, Sharding

    return Machine(
        out=out,
        data=data,
        resume=resume_of(options.resume),
        sharding=Sharding(
            deepspeed=deepspeed_config(options.deepspeed) if options.deepspeed else None, fsdp=options.fsdp
        ),
        workers=options.workers or os.cpu_count() or 1,
        loaders=options.loaders,
        cpu=options.cpu,
        compile=options.compile,
    )


def resume_of(text: str) -> str:
    """What `--resume` says. ValueError for a checkpoint that is not there."""
    if text not in ("auto", "none") and not Path(text).is_dir():
        raise ValueError(f"no checkpoint at {text}: --resume takes auto, none or the path of one")
    return text


def quiet() -> None:
    """Settings of libraries for a run: they say nothing but errors and warnings of ours."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
    os.environ.setdefault("TQDM_DISABLE", "1")
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.showwarning = _warner()


def shipped() -> list[str]:
    """Names of the DeepSpeed configurations that come with the package."""
    return sorted(path.stem for path in DEEPSPEED.glob("*.json"))


def deepspeed_config(name: str) -> dict[str, Any]:
    """A shipped configuration by name, or a file. ValueError for neither."""
    path = DEEPSPEED / f"{name}.json" if name in shipped() else Path(name)
    if not path.is_file():
        raise ValueError(f"no DeepSpeed configuration {name!r}: give a JSON file or {', '.join(shipped())}")
    return read_object(path)


def _warner() -> Callable[..., None]:
    """Shows warnings of ours once each, in one line; those of libraries about themselves are left out."""
    shown: set[str] = set()

    def warn(message: Any, category: Any, *_: Any, **__: Any) -> None:
        text = str(message)
        ours = category is UserWarning and ("checkpoint" in text or text.startswith("left out"))
        if ours and text not in shown:
            shown.add(text)
            print(f"unified.train: warning: {text}", file=sys.stderr)

    return warn
