"""`python -m unified.train tokenizer --kind KIND --data PATH ... --out DIR`: a visual tokenizer of any kind
on one's own images, with small default sizes. The folder is then a tokenizer that every other part
loads."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unified.train.machine_options import quiet

from unified.apps.commands.common import count, number, seed
from unified.command import Parser
from unified.command import run as run_command

TAUGHT = ("gigatok", "hita", "composite")  # kinds that a teacher's features are given to
INTERRUPTED = "interrupted; the same command goes on where it stopped"


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    from unified.tokenizers.kinds import KINDS

    made = Parser(prog="python -m unified.train tokenizer", description="Train a visual tokenizer.")
    made.add_argument("--kind", required=True, metavar="KIND", help=f"one of {', '.join(KINDS)}")
    files = "folders of images (larp: of videos, animations, folders of frames), or single files"
    made.add_argument("--data", nargs="+", action="extend", required=True, metavar="PATH", help=files)
    made.add_argument("--out", type=Path, required=True, help="folder of the run and of the tokenizer")
    _add_sizes(made)
    _add_losses(made)
    _add_run(made)
    return made


def _add_sizes(made: argparse.ArgumentParser) -> None:
    sizes = made.add_argument_group("sizes")
    sizes.add_argument("--size", type=count, default=64, help="side of the images in pixels (default 64)")
    sizes.add_argument("--codes", type=count, default=1024, help="in the codebook (default 1024)")
    sizes.add_argument("--dim", type=count, default=16, help="channels of a code or latent (default 16)")
    sizes.add_argument("--stride", type=count, default=8, help="pixels of a cell of the grid (default 8)")
    line = "codes of an image without a grid (gigatok, selftok, larp; default 64)"
    sizes.add_argument("--tokens", type=count, default=64, help=line)
    sizes.add_argument("--width", type=count, default=32, help="of the narrowest layer (default 32)")
    sizes.add_argument("--frames", type=count, default=8, help="of a clip (larp; default 8)")


def _add_losses(made: argparse.ArgumentParser) -> None:
    losses = made.add_argument_group("losses")
    files = "weights of LPIPS: torchvision's AlexNet or VGG16, and LPIPS's own (with weight 1 unless told)"
    losses.add_argument("--lpips", nargs=2, metavar=("BACKBONE", "LINEAR"), default=(), help=files)
    perceptual = "weight of LPIPS, or without its files of frozen random features (default 0)"
    losses.add_argument("--perceptual", type=_weight, metavar="W", help=perceptual)
    patches = "weight of a discriminator of patches (default 0)"
    losses.add_argument("--adversarial", type=_weight, default=0.0, metavar="W", help=patches)
    start = "steps before it counts (default: a quarter of all)"
    losses.add_argument("--adversarial-start", type=seed, metavar="N", help=start)
    even = "weight of the entropy loss (vq, fvq, bsq, gigatok, hita, composite; default 0)"
    losses.add_argument("--entropy", type=_weight, default=0.0, metavar="W", help=even)
    teacher = "a teacher, transformers:FOLDER or module:function, of gigatok, hita, composite (default: none)"
    losses.add_argument("--features", default="", metavar="NAME", help=teacher)


def _add_run(made: argparse.ArgumentParser) -> None:
    run = made.add_argument_group("training")
    run.add_argument("--steps", type=count, default=2000, help="of the optimiser (default 2000)")
    run.add_argument("--batch", type=count, default=16, help="images a step, of all processes (default 16)")
    run.add_argument("--learning-rate", type=float, default=1e-3, help="default 1e-3")
    mean = "decay of a running mean of the weights, which is what is saved (default 0: none)"
    run.add_argument("--average", type=float, default=0.0, metavar="D", help=mean)
    moved = "move codes that are not used (default where a kind can)"
    run.add_argument("--restarts", action=argparse.BooleanOptionalAction, default=True, help=moved)
    run.add_argument("--flip", action="store_true", help="mirror half of the images")
    run.add_argument("--bf16", action="store_true", help="networks in bfloat16")
    share = "share of the files that is held out (default 0.05)"
    run.add_argument("--validation", type=float, default=0.05, help=share)
    run.add_argument("--skip-bad", action="store_true", help="leave files out that cannot be read")
    run.add_argument("--seed", type=seed, default=0)
    run.add_argument("--log-every", type=count, default=50, metavar="N", help="steps (default 50)")
    run.add_argument("--save-every", type=count, default=200, metavar="N", help="steps (default 200)")
    sheets = "steps between sheets of reconstructions, 0 for none (default 500)"
    run.add_argument("--sheet-every", type=seed, default=500, metavar="N", help=sheets)
    run.add_argument("--override", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    again = "auto (default) goes on from the last checkpoint, none begins anew"
    run.add_argument("--resume", choices=("auto", "none"), default="auto", help=again)
    run.add_argument("--workers", type=count, default=1, help="processes that read files (default 1)")
    run.add_argument("--cpu", action="store_true", help="leave GPUs alone")


def _weight(text: str) -> float:
    return number(text, 0)


def tokenizer(arguments: Sequence[str]) -> int:
    """The command; its exit status."""
    return run_command("unified.train", _tokenizer, parser().parse_args(arguments), INTERRUPTED)


def _tokenizer(options: argparse.Namespace) -> int:
    """ValueError, in one line, before anything is made, for what cannot be trained."""
    quiet()
    from unified.train.override import override
    from unified.train.own_tokenizer import Place, train_own

    for path in (*options.data, *options.lpips):
        if not Path(path).exists():
            raise ValueError(f"{path}: no such file or folder")
    recipe = override(recipe_of(options), options.override)
    place = Place(
        out=options.out,
        workers=options.workers,
        cpu=options.cpu,
        resume=options.resume == "auto",
        say=lambda line: print(line, flush=True),
    )
    result = train_own(recipe, place)
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"wrote {result}")
    return 0


def recipe_of(options: argparse.Namespace) -> Any:
    """The recipe of the options. ValueError for a kind or sizes that do not fit."""
    from unified.tokenizers.kinds import Wanted, kind_of
    from unified.train.own_images import Reading
    from unified.train.own_tokenizer import Inputs, OwnTokenizerRecipe

    kind = kind_of(options.kind)
    reading = Reading(
        size=options.size,
        frames=options.frames if kind.clips else 0,
        validation=options.validation,
        skip_bad=options.skip_bad,
    )
    wanted = Wanted(
        size=options.size,
        codes=options.codes,
        dim=options.dim,
        stride=options.stride,
        tokens=options.tokens,
        width=options.width,
        frames=options.frames,
        features=_channels(options),
    )
    return OwnTokenizerRecipe(
        kind=options.kind,
        network=kind.small(wanted),
        inputs=Inputs(
            paths=tuple(options.data),
            reading=reading,
            batch=options.batch,
            flip=options.flip,
            features=options.features,
            lpips=tuple(options.lpips),
        ),
        training=_training(options, kind),
        seed=options.seed,
        save_every=options.save_every,
        sheet_every=options.sheet_every,
    )


def _training(options: argparse.Namespace, kind: Any) -> Any:
    from unified.train.tokenizer import AnnealingConfig, LossConfig, RestartConfig, TokenizerTrainingConfig

    perceptual = float(bool(options.lpips)) if options.perceptual is None else options.perceptual
    start = options.adversarial_start
    losses = replace(
        LossConfig(pixels=kind.pixels, quantiser=kind.quantiser),
        entropy=options.entropy,
        perceptual=perceptual,
        adversarial=options.adversarial,
        adversarial_start=options.steps // 4 if start is None else start,
    )
    return TokenizerTrainingConfig(
        steps=options.steps,
        learning_rate=options.learning_rate,
        average=options.average,
        bf16=options.bf16,
        log_every=options.log_every,
        losses=losses,
        annealing=AnnealingConfig(warmup=min(50, options.steps // 10)),
        restarts=RestartConfig() if options.restarts and kind.restarts else None,
    )


def _channels(options: argparse.Namespace) -> int:
    """Of the teacher's features; 0 without one. ValueError for a kind that has no use for them."""
    if not options.features:
        return 0
    import torch
    from unified.train.teachers import channels_of, teacher_of

    if options.kind not in TAUGHT:
        raise ValueError(f"features are for {', '.join(TAUGHT)}, not for {options.kind}")
    return channels_of(teacher_of(options.features), torch.zeros(1, 3, options.size, options.size))
