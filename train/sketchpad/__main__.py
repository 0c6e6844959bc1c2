"""`python -m unified.train.sketchpad text | latents | decoder --model FOLDER ... --out FOLDER`.

The three trainings of latent sketches, in this order: `text` writes a whole model, `latents` the vision head
of one (OUT may be the model's own folder), `decoder` a sketch decoder for its features. A decoder that is
there before serves the augmentation of the other two (`--decoder`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from unified.tasks.mazes.traces import read_traces
from unified.tasks.outside.faults import Faults
from unified.train.machine_options import quiet
from unified.train.sketchpad.augmentation import Reconstruction
from unified.train.sketchpad.decoder import DecoderTraining, DecoderTrainingConfig, features_by
from unified.train.sketchpad.drawings import Drawing, Picture, of_image, picture, read_drawings
from unified.train.sketchpad.rows import pictures_of
from unified.train.sketchpad.run import WEIGHT_DECAY, arguments, save, train
from unified.train.sketchpad.stages import Conversation, OnDisk, SketchTraining, StageConfig, examples

from unified.checkpoints import autoencoder_kl, sketch_decoder
from unified.command import Parser
from unified.command import run as run_command
from unified.heads.latents import LATENT_LOSSES
from unified.vision_language.files import load_pretrained
from unified.vision_language.processor import PretrainedProcessor
from unified.vision_language.sketchpad.families import family_of
from unified.vision_language.sketchpad.files import has_head, load_head
from unified.vision_language.sketchpad.model import Sketchpad, head_for

Made = Callable[[], Picture]
PUBLISHED = {  # epochs, rows, accumulation
    "text": (2.0, 2, 8),
    "latents": (5.0, 8, 2),
    "decoder": (10.0, 16, 2),
}


def parser() -> argparse.ArgumentParser:
    made = Parser(prog="unified.train.sketchpad", description="Train latent sketches.")
    made.add_argument("stage", choices=PUBLISHED)
    made.add_argument("--model", type=Path, required=True, help="a folder of Gemma 3 or Qwen2.5-VL")
    made.add_argument("--traces", type=Path, help="a folder of records (records.jsonl)")
    made.add_argument("--out", type=Path, required=True)
    made.add_argument(
        "--size", type=int, help="middle square of every picture at this side (default: as it is)"
    )
    made.add_argument("--decoder", type=Path, help="sketch decoder of the reconstruction augmentation")
    made.add_argument("--skip-bad", action="store_true", help="leave bad records out in place of stopping")
    made.add_argument("--epochs", type=float)
    made.add_argument("--rows", type=int)
    made.add_argument("--accumulation", type=int)
    made.add_argument("--learning-rate", type=float, default=1e-4)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the model")
    made.add_argument("--cpu", action="store_true")
    head = made.add_argument_group("of `latents`")
    head.add_argument("--loss", choices=LATENT_LOSSES, default="l1")
    head.add_argument("--images", type=int, default=16, help="finished images the head has room for")
    head.add_argument("--depth", type=int, nargs=2, default=(2, 8), metavar=("PREFIX", "LOCAL"))
    head.add_argument("--attention-heads", type=int, help="default: those of the vision encoder")
    drawing = made.add_argument_group("of `decoder`")
    drawing.add_argument("--vae", type=Path, help="an AutoencoderKL as diffusers saves it (that of SDXL)")
    drawing.add_argument(
        "--drawings", type=Path, help=".ndjson of Quick, Draw!, beside or in place of traces"
    )
    drawing.add_argument("--pictures", type=int, default=10_000, help="pictures of drawings an epoch")
    drawing.add_argument("--layers", type=int, default=12)
    drawing.add_argument("--heads", type=int, default=8)
    drawing.add_argument("--inner", type=int, default=3072)
    drawing.add_argument("--side", type=int, default=224, help="of the decoder's pictures (default 224)")
    return made


def main(given: Sequence[str] | None = None) -> int:
    return run_command("unified.train.sketchpad", _train, parser().parse_args(given))


def _train(options: argparse.Namespace) -> int:
    epochs, rows, accumulation = PUBLISHED[options.stage]
    shared = {
        "learning_rate": options.learning_rate,
        "epochs": options.epochs if options.epochs is not None else epochs,
        "rows": options.rows or rows,
        "accumulation": options.accumulation or accumulation,
        "seed": options.seed,
    }
    quiet()
    faults = Faults("skip" if options.skip_bad else "raise")
    conversations = list(_readable(options, faults)) if options.traces else []
    if faults.lines:
        print(f"{len(faults.lines)} bad records left out, the first: {faults.lines[0]}", file=sys.stderr)
    reader, processor = load_pretrained(options.model, dtype=getattr(torch, options.dtype))
    if options.stage == "decoder":
        return _decoder(options, DecoderTrainingConfig(**shared), (reader, processor), conversations)
    config = StageConfig(stage=options.stage, loss=options.loss, **shared)
    found = examples(config, conversations)
    pad = _pad(options, reader, processor, found[0].conversation)
    module = SketchTraining(pad, processor, config, _reconstruction(options, pad, processor))
    given = arguments(
        options.out,
        config,
        lr_scheduler_type="cosine",
        weight_decay=WEIGHT_DECAY,
        use_cpu=options.cpu,
    )
    losses = train(module, found, given)
    save(options.out, pad, options.stage, options.model)
    print(
        f"{len(found)} examples; last loss {losses[-1] if losses else float('nan'):.4f}; wrote {options.out}"
    )
    return 0


def _pad(
    options: argparse.Namespace, reader: Any, processor: PretrainedProcessor, conversation: Conversation
) -> Sketchpad:
    """The model with the head that lies beside it, or a new one for pictures like the last of a trace."""
    if options.stage == "text":
        return _without_head(reader)
    if has_head(options.model):
        return Sketchpad(reader, load_head(options.model).to(reader.device))
    images = _without_head(reader).encode(processor.pixels(pictures_of(conversation.messages())[-1:]))
    merge = family_of(reader.pretrained).connector(reader.pretrained).merge
    head = head_for(
        reader,
        tokens=len(images.features[0]) // merge,
        images=options.images,
        depth=tuple(options.depth),
        heads=options.attention_heads,
    )
    return Sketchpad(reader, head.to(reader.device))


def _without_head(reader: Any) -> Sketchpad:
    """For what needs features alone: its head is never run."""
    return Sketchpad(reader, head_for(reader, tokens=1, images=1, depth=(1, 1), heads=1))


def _reconstruction(
    options: argparse.Namespace, pad: Sketchpad, processor: PretrainedProcessor
) -> Reconstruction | None:
    if options.decoder is None:
        return None
    return Reconstruction(pad, processor, sketch_decoder.load(options.decoder).to(pad.reader.device).decode)


def _decoder(
    options: argparse.Namespace,
    config: DecoderTrainingConfig,
    base: tuple[Any, PretrainedProcessor],
    conversations: Sequence[OnDisk],
) -> int:
    reader, processor = base
    if options.vae is None:
        raise ValueError("a sketch decoder needs --vae: the folder of an AutoencoderKL")
    vae = autoencoder_kl.load(options.vae)
    if options.side % vae.stride:
        raise ValueError(f"--side {options.side} must be a multiple of {vae.stride}, pixels of a latent")
    found = _pictures(options, conversations)
    features = features_by(_without_head(reader), processor)
    count, width = features([found[0]().shown]).shape[1:]
    decoder = sketch_decoder.SketchDecoder(
        sketch_decoder.SketchDecoderConfig(
            features=width,
            width=vae.config.widths[-1],
            heads=options.heads,
            layers=options.layers,
            inner=options.inner,
            grid=options.side // vae.stride,
            position_rows=count + sketch_decoder.FIRST_PLACE,
            channels=vae.channels,
        ),
        vae,
    )
    module = DecoderTraining(decoder, features, config.seed)
    losses = train(module, found, arguments(options.out, config, use_cpu=options.cpu))
    sketch_decoder.save(options.out, decoder)
    print(
        f"{len(found)} pictures; last loss {losses[-1] if losses else float('nan'):.4f}; wrote {options.out}"
    )
    return 0


def _pictures(options: argparse.Namespace, conversations: Sequence[OnDisk]) -> list[Made]:
    """Pictures of the traces, and of drawings, made when they are due."""
    numbered = ((one, number) for one in conversations for number in range(one.pictures))
    found: list[Made] = [partial(_of_trace, *pair, options.side) for pair in numbered]
    if options.drawings is not None:
        drawings = read_drawings(options.drawings, Faults("skip" if options.skip_bad else "raise"))
        shown = options.size or (len(found[0]().shown) if found else options.side)
        seeds = ([options.seed, number] for number in range(options.pictures))
        found += [partial(_of_drawings, drawings, seed, options.side, shown) for seed in seeds]
    if not found:
        raise ValueError("nothing to draw: give --drawings or --traces")
    return found


def _of_trace(conversation: OnDisk, number: int, side: int) -> Picture:
    return of_image(pictures_of(conversation.messages())[number], side)


def _of_drawings(drawings: Sequence[Drawing], seed: list[int], side: int, shown: int) -> Picture:
    return picture(drawings, np.random.default_rng(seed), side, shown)


def _readable(options: argparse.Namespace, faults: Faults) -> Iterator[OnDisk]:
    """The traces whose pictures can all be read: read once before anything is trained."""
    for trace in read_traces(options.traces, faults):
        before = len(faults.lines)
        with faults.at(""):  # a trace names its line itself
            trace.messages(options.size)
        if len(faults.lines) == before:
            yield OnDisk(trace, options.size)


if __name__ == "__main__":
    sys.exit(main())
