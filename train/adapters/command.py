"""`python -m unified.train control | upscale | subject`: small adapters beside a frozen model.

python -m unified.train control --data FOLDER ... --out edges.safetensors
python -m unified.train upscale --data FOLDER ... --out larger.safetensors
python -m unified.train subject PICTURE ... --word sks --class toy --out sks.safetensors
python -m unified.train subject PICTURE --style --word sks --out style.safetensors
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unified.apps.commands.common import check_target, count, number, seed
from unified.command import Parser
from unified.command import run as run_command

INTERRUPTED = "interrupted; nothing was written"


def control(arguments: Sequence[str]) -> int:
    """Train a control by edges, or by pictures that lie beside the images."""
    made = _parser("control", "Train a control by a picture: images follow its edges, or what it shows.")
    made.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="FOLDER", help="captioned images"
    )
    beside = "pictures of the same names that control the images (default: the edges of the images)"
    made.add_argument("--conditions", type=Path, metavar="FOLDER", help=beside)
    _add_kind(made)
    _add_tuning(made, steps=2000, rows=8, rate=5e-4)
    return run_command("unified.train", _control, made.parse_args(arguments), INTERRUPTED)


def upscale(arguments: Sequence[str]) -> int:
    """Train a control by a smaller copy of the image."""
    made = _parser(
        "upscale", "Train what `unified upscale` draws by: images follow smaller copies of themselves."
    )
    made.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="PATH", help="pictures, or folders"
    )
    made.add_argument("--factor", type=count, default=2, help="by which the copies are smaller (default 2)")
    _add_kind(made)
    _add_tuning(made, steps=2000, rows=8, rate=5e-4)
    return run_command("unified.train", _upscale, made.parse_args(arguments), INTERRUPTED)


def subject(arguments: Sequence[str]) -> int:
    """Teach a word for what pictures show, or for their style."""
    made = _parser("subject", "Teach a model a word for what a few pictures show, or for their style.")
    made.add_argument(
        "images", type=Path, nargs="+", metavar="PICTURE", help="picture files, or folders of them"
    )
    made.add_argument("--word", required=True, help="a word for it that means nothing else, such as sks")
    made.add_argument("--class", dest="noun", default="object", help="what it is one of (default: object)")
    prompts = "a request with {} where the subject is named; again for another (default: a few)"
    made.add_argument("--prompt", action="append", default=[], metavar="WORDS", help=prompts)
    prior = "images of the class that the model draws beforehand and is held to (default 16; 0: none)"
    made.add_argument("--prior", type=seed, default=16, metavar="N", help=prior)
    made.add_argument("--rank", type=count, default=8, help="of the changes of matrices (default 8)")
    style = "learn style and content apart, each by a memory (CSD-VAR), in place of a subject"
    made.add_argument("--style", action="store_true", help=style)
    made.add_argument("--layers", type=count, default=1, help="of --style: that see a memory (default 1)")
    _add_tuning(made, steps=200, rows=4, rate=None)
    return run_command("unified.train", _subject, made.parse_args(arguments), INTERRUPTED)


def _parser(name: str, text: str) -> Parser:
    made = Parser(prog=f"python -m unified.train {name}", description=text)
    made.add_argument("--model", help="a folder or hub name (default: the shipped model)")
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="the adapter (.safetensors)")
    return made


def _add_kind(made: Parser) -> None:
    kinds = ("scale_control", "reference_attention")
    text = "ECM (default), or ScaleWeaver's, which reads the picture once"
    made.add_argument("--kind", choices=kinds, default=kinds[0], help=text)


def _add_tuning(made: Parser, *, steps: int, rows: int, rate: float | None) -> None:
    made.add_argument("--steps", type=count, default=steps, help=f"default {steps}")
    made.add_argument("--rows", type=count, default=rows, help=f"images in a step (default {rows})")
    text = "default 1e-3, with --style 1e-2" if rate is None else f"default {rate:g}"
    made.add_argument("--learning-rate", type=_rate, default=rate, help=text)
    made.add_argument("--size", type=count, help="side of the images in pixels (default 64)")
    made.add_argument("--seed", type=seed, default=0)
    made.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")


def _rate(text: str) -> float:
    return number(text, 0)


# Work -------------------------------------------------------------------------------------------------------


def _control(options: argparse.Namespace) -> int:
    from unified.train.adapters.controls import captioned

    from unified.apps.conditions import EDGES, GIVEN

    def data(size: int) -> Any:
        return captioned(options.data, size, options.conditions)

    return _trained(options, data, condition=EDGES if options.conditions is None else GIVEN)


def _upscale(options: argparse.Namespace) -> int:
    from unified.train.adapters.controls import plain_pictures

    from unified.apps.conditions import SMALL

    def data(size: int) -> Any:
        return plain_pictures(options.data, size)

    return _trained(options, data, condition=SMALL, factor=options.factor)


def _trained(options: argparse.Namespace, data: Callable[[int], Any], **chosen: Any) -> int:
    from unified.train.adapters.controls import ControlConfig, train_control

    _check_out(options.out)
    model, processor, size = _model(options)
    config = ControlConfig(kind=options.kind, size=size, tuning=_tuning(options), **chosen)
    train_control(model, processor, data(size), config, options.out)
    print(f"wrote {options.out}")
    return 0


def _subject(options: argparse.Namespace) -> int:
    from unified.tasks.outside.images import read_image
    from unified.train.adapters.controls import pictures_of
    from unified.train.adapters.subjects import (
        PROMPTS,
        StyleConfig,
        SubjectConfig,
        train_style,
        train_subject,
    )

    from unified.low_rank import LowRankConfig

    _check_out(options.out)
    options.learning_rate = options.learning_rate or (1e-2 if options.style else 1e-3)
    paths, tuning = pictures_of(options.images), _tuning(options)
    if options.style:
        style = StyleConfig(word=options.word, layers=options.layers, tuning=tuning)
    else:
        subject = SubjectConfig(
            word=options.word,
            noun=options.noun,
            prompts=tuple(options.prompt) or PROMPTS,
            prior=options.prior,
            changes=LowRankConfig(rank=options.rank, alpha=2.0 * options.rank),
            tuning=tuning,
        )
    model, processor, size = _model(options)
    pictures = [read_image(path, size) for path in paths]
    if options.style:
        train_style(model, processor, pictures, style, options.out)
    else:
        train_subject(model, processor, pictures, subject, options.out)
    print(f"wrote {options.out}")
    return 0


def _check_out(out: Path) -> None:
    check_target(out)
    if out.suffix != ".safetensors":
        raise ValueError(f"{out}: name a file such as {out.stem or 'adapter'}.safetensors")


def _tuning(options: argparse.Namespace) -> Any:
    from unified.train.adapters.tuning import TuningConfig

    given = {name: getattr(options, name) for name in ("steps", "rows", "learning_rate", "seed")}
    return TuningConfig(**given)


def _model(options: argparse.Namespace) -> tuple[Any, Any, int]:
    """The model in float32, its processor, and the side of the images."""
    import torch

    from unified.apps.assistant import SIDE, Assistant
    from unified.apps.loading import load

    found = load(options.model, device=options.device, dtype=torch.float32)
    if not isinstance(found, Assistant):
        raise ValueError("adapters are for models in this project's own form")
    found.model.fused = None
    size = SIDE if options.size is None else options.size
    found.shapes((size, size))  # refuses a size that the model does not draw
    return found.model, found.processor, size
