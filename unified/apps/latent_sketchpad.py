"""Answers with latent sketches: `python -m unified.apps.latent_sketchpad IMAGE --model FOLDER`.

A folder of a model of `transformers` with `vision_head.json` in it (`unified.train.sketchpad` writes one);
with a sketch decoder the sketches are pictures for people, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.utils.logging import disable_progress_bar

from unified.apps.image_text import pictures, user_message
from unified.apps.questions import Source
from unified.checkpoints import sketch_decoder
from unified.command import Parser, run
from unified.decoding.sampling import Sampler
from unified.tokenizers.images import to_uint8
from unified.vision_language.files import load_pretrained, sampler_of
from unified.vision_language.processor import PretrainedProcessor
from unified.vision_language.sketchpad.files import has_head, load_head
from unified.vision_language.sketchpad.model import Sketchpad
from unified.vision_language.sketchpad.thinking import CLOSER, SketchRule, Thinking, think


@dataclass(frozen=True)
class Drawn:
    """One sketch of an answer: `features` [n * merge, V], and the picture that the sketch decoder makes of
    them, uint8 [H, W, 3]; None without a decoder."""

    features: torch.Tensor
    picture: np.ndarray | None


class LatentSketchpad:
    """`pad` and its processor; `decoder`: draws the latents for people. ValueError for a decoder of other
    features than the model's."""

    def __init__(
        self,
        pad: Sketchpad,
        processor: PretrainedProcessor,
        decoder: sketch_decoder.SketchDecoder | None = None,
        *,
        sampler: Sampler | None = None,
        seed: int = 0,
    ) -> None:
        width = pad.head.config.vision_width
        if decoder is not None and decoder.config.features != width:
            raise ValueError(
                f"the sketch decoder draws features of width {decoder.config.features}, the model has {width}"
            )
        self.pad, self.processor, self.decoder, self.seed = pad, processor, decoder, seed
        self.sampler = sampler or sampler_of(getattr(pad.reader.pretrained, "generation_config", None))
        self.thinking: Thinking  # the latest answer

    def answer(
        self,
        question: str,
        image: Source | Sequence[Source] | None = None,
        *,
        rule: SketchRule | None = None,
    ) -> Iterator[str | Drawn]:
        """Pieces of text and sketches as they come; `thinking.stopped` then says why the answer ended."""
        prompt = self.processor.prompt([user_message(question, pictures(image))])
        self.thinking = think(
            self.pad,
            self.processor,
            prompt,
            rule or SketchRule(),
            sampler=self.sampler,
            seed=self.seed,
        )
        for piece in self.thinking:
            yield piece if isinstance(piece, str) else self.drawn(piece.features)

    def drawn(self, features: torch.Tensor) -> Drawn:
        """Features [n * merge, V] of a sketch with their picture."""
        if self.decoder is None:
            return Drawn(features, None)
        own = features[None].to(self.decoder.aligner.encoder_query)
        return Drawn(features, to_uint8(self.decoder.decode(own))[0])


def load(
    model: str | Path,
    *,
    head: str | Path | None = None,
    decoder: str | Path | None = None,
    **options: Any,
) -> LatentSketchpad:
    """A model's folder, and those of its vision head and sketch decoder where they lie elsewhere. `options`:
    of `load_pretrained`. ValueError, in one line, for files that are missing, damaged or do not fit."""
    folder = Path(model)
    reader, processor = load_pretrained(folder, **options)
    pad = Sketchpad(reader, load_head(Path(head or folder)).to(reader.device))
    drawing = Path(decoder or folder)
    found = None
    if decoder is not None or (drawing / sketch_decoder.CONFIG).is_file():
        found = sketch_decoder.load(drawing).to(reader.device)
    return LatentSketchpad(pad, processor, found)


# Command line -----------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    made = Parser(prog="unified.apps.latent_sketchpad", description="Answer with latent sketches.")
    made.add_argument("image", nargs="+", help="picture files")
    made.add_argument("--model", type=Path, required=True, help="a folder of transformers with a vision head")
    made.add_argument("--head", type=Path, help="folder of the vision head, if it is another")
    made.add_argument("--decoder", type=Path, help="folder of the sketch decoder, if it is another")
    made.add_argument("--question", default="Find the way to the goal.")
    made.add_argument("--sketches", type=int, default=8, help="at most so many (default 8)")
    made.add_argument("--max-tokens", type=int, default=2500, help="at most so many ids of text")
    made.add_argument("--own", action="store_true", help="the model opens sketches itself; no rule does")
    made.add_argument("--save", type=Path, help="folder for the text and the sketches")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    return run("unified.apps.latent_sketchpad", _answer, parser().parse_args(arguments))


def _answer(options: argparse.Namespace) -> int:
    disable_progress_bar()
    closer = None if options.own else CLOSER
    rule = SketchRule(closer=closer, sketches=options.sketches, max_tokens=options.max_tokens)
    if not has_head(options.head or options.model):
        raise ValueError(f"{options.head or options.model}: no vision head (vision_head.json) lies there")
    made = load(options.model, head=options.head, decoder=options.decoder)
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
    told, count = "", 0
    for piece in made.answer(options.question, options.image, rule=rule):
        if isinstance(piece, str):
            told += piece
            print(piece, end="", flush=True)
            continue
        told += f"[sketch {count}]"
        print(f"[sketch {count}]", end="", flush=True)
        if options.save and piece.picture is not None:
            Image.fromarray(piece.picture).save(options.save / f"sketch_{count}.png")
        count += 1
    print()
    if options.save:
        (options.save / "answer.txt").write_text(f"{told}\n", encoding="utf-8")
    print(f"{count} sketches; ended: {made.thinking.stopped}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
