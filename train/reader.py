"""Trains a reader of actions: an inverse dynamics model of what a model's visual tokenizer makes of frames.

    python -m unified.train.reader --model FOLDER --out reader.safetensors --clips 7000

It reads the vectors of true frames' codes, of a player who uses every key of the voxel world (training
split). `unified.train.transition --reader FILE` learns from it to show what was done. Action following is
measured with another one, of pixels (`unified.eval.inverse`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from unified.tasks.worlds import inverse
from unified.tasks.worlds.clips import WorldConfig
from unified.tasks.worlds.inverse import InverseTraining
from unified.train.transition import HELD_OUT, WINDOW, Clips, clips_of, reader_config, vectors_of, watched

from unified.apps.commands.common import check_target, count, seed
from unified.apps.settings import SIDE
from unified.command import Parser, run
from unified.pretrained import find, load_model


@dataclass(frozen=True)
class Vectors:
    """Clips as the vectors [K, C] of their codes."""

    codes: Clips
    codebook: Tensor

    @property
    def truth(self) -> dict[str, Tensor]:
        return self.codes.classes

    def __len__(self) -> int:
        return len(self.codes)

    def frames(self, rows: Tensor) -> Tensor:
        """[n, F, h, w, C]"""
        return self.codebook[self.codes.codes[rows].long()].unflatten(2, self.codes.shape)

    def visit(self, rows: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """[n, F, h, w, C], a share of them blurred as imagined frames are: a mean over 3 x 3 places from some
        frame on, over 5 x 5 once more from a later one."""
        frames = self.frames(rows).movedim(-1, 2)
        numbers = torch.arange(frames.shape[1])
        chosen = torch.rand(len(frames), 1, generator=generator) < share
        for side, earliest in ((3, 1), (5, 3)):
            starts = torch.randint(earliest, frames.shape[1] + 3, (len(frames), 1), generator=generator)
            clips, steps = torch.nonzero(chosen & (numbers >= starts), as_tuple=True)
            if len(clips):
                wide = F.pad(frames[clips, steps], (side // 2,) * 4, mode="replicate")
                frames[clips, steps] = F.avg_pool2d(wide, side, stride=1)
        return frames.movedim(2, -1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="unified.train.reader", description="Trains a reader of actions from a model's codes."
    )
    parser.add_argument("--model", help="a folder or hub name (default: the shipped model)")
    parser.add_argument("--out", type=Path, required=True, help="where to write it (.safetensors)")
    frames = WINDOW + 1
    parser.add_argument("--clips", type=count, default=7000, help=f"clips of {frames} frames (default 7000)")
    parser.add_argument("--epochs", type=count, default=11)
    parser.add_argument("--workers", type=count, default=os.cpu_count() or 1, help="processes that watch")
    parser.add_argument("--seed", type=seed, default=100, help="of clips and their order (default 100)")
    return run(parser.prog, lambda options: _train(parser, options), parser.parse_args(arguments))


def _train(parser: Parser, options: argparse.Namespace) -> int:
    try:
        check_target(options.out)
        _, processor = load_model(find(options.model))
        if processor.visual is None or processor.action is None:
            raise ValueError("a reader needs a model with a visual tokenizer and an action tokenizer")
    except (ValueError, OSError) as error:
        parser.error(" ".join(str(error).split()))
    config = WorldConfig(size=SIDE, frames=WINDOW + 1, players=("roam",), seed=options.seed)
    codebook = vectors_of(processor)
    splits = {"train": options.clips, "validation": HELD_OUT}
    data, held_out = (
        Vectors(clips_of(watched(config, split, number, options.workers), processor), codebook)
        for split, number in splits.items()
    )
    training = InverseTraining(clips=len(data), epochs=options.epochs, seed=options.seed)
    made = inverse.train(data, reader_config(processor), training)
    with torch.no_grad():
        nats = inverse.cost(made(held_out.frames(torch.arange(len(held_out)))), held_out.truth).item()
    inverse.save(made, options.out, {**asdict(training), "held_out_nats": nats})
    print(f"Wrote {options.out}: {nats:.3f} nats an action on held-out clips.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
