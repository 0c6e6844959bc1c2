"""Trains a model's transition alone: the next frame's codes from a frame and an action.

    python -m unified.train.transition --model FOLDER --out FOLDER --hidden 96 --clips 6000 --steps 6000

Inside the model it learns from some dozen frames a step, beside everything else; alone, between the model's
own embeddings and head, which stay as they are, from many times as many. Given none, the model gets one. It
is then to be trained on as a whole (`start=FOLDER` of a recipe).
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from unified.tasks.worlds.clips import EVERY_KEY, Clip, WorldConfig, watch
from unified.tokenizers.images import to_images
from unified.train.pictures import mapped
from unified.train.rewrite import like, parser, rewrite

from unified.assistant import SIDE
from unified.commands.common import count, seed
from unified.heads import log_prob
from unified.model import UnifiedModel
from unified.processor import Processor
from unified.vocabulary import Shape

SHARPNESS = 4.0  # length that embeddings are brought to before the head reads them, per root of their width
FRAMES = 9
WARMUP = 50
HELD_OUT = 64  # clips


@dataclass(frozen=True)
class Pairs:
    """Codes of frames [N, R] of one size, of those that follow them [N, R], and the action ids between
    [N, A]."""

    before: Tensor
    after: Tensor
    actions: Tensor
    shape: Shape

    def __len__(self) -> int:
        return len(self.before)


def watched(config: WorldConfig, split: str, number: int, workers: int) -> Iterator[Clip]:
    """Clips from several processes."""
    return mapped(partial(watch, config, split=split), range(number), workers)


def pairs_of(clips: Iterator[Clip], processor: Processor) -> Pairs:
    """All successive frames of clips of one size. The processor needs both tokenizers."""
    visual: Any = processor.visual
    before, after, actions = [], [], []
    shape: Shape = (0, 0)
    for clip in clips:
        images = to_images(clip.frames)
        shape = (images.shape[2] // visual.stride, images.shape[3] // visual.stride)
        with torch.no_grad():
            codes = visual.encode(images, processor.schedule(shape, frame=True))[-1].flatten(1).int()
        acts = [{"type": "action", "action": action} for action in clip.actions]
        ids = torch.tensor(processor.turn({"role": "user", "content": acts}))
        actions.append(ids[ids >= processor.vocabulary.action_start].view(len(acts), -1))
        before.append(codes[:-1])
        after.append(codes[1:])
    return Pairs(torch.cat(before), torch.cat(after), torch.cat(actions), shape)


def with_transition(model: UnifiedModel, hidden: int) -> UnifiedModel:
    """The model with a transition of so many channels, its own if it has that one."""
    if model.slots.transition is not None and model.config.transition == hidden:
        return model
    grown = like(model, transition=hidden)
    kept = {k: v for k, v in model.state_dict().items() if not k.startswith("slots.transition.")}
    grown.load_state_dict(kept, strict=False)
    return grown.eval()


def losses(model: UnifiedModel, pairs: Pairs, chosen: Tensor) -> Tensor:
    """[n, R]: the nats that the codes after cost."""
    head, words = model.head, model.vocabulary
    said = model.get_input_embeddings()(words.table_rows(pairs.actions[chosen])).sum(dim=1)
    images = head.embed(pairs.before[chosen].long()).unflatten(1, pairs.shape)
    sizes = torch.tensor([pairs.shape]).expand(len(chosen), 2)
    found = model.slots.transition(images, sizes, said).flatten(1, 2)  # type: ignore[misc]
    states = torch.nn.functional.rms_norm(found.float(), found.shape[-1:]) * SHARPNESS
    return -log_prob(head.logits(states), head.to_symbols(pairs.after[chosen].long()))


def train(model: UnifiedModel, pairs: Pairs, steps: int, *, batch: int, rate: float, seed: int = 0) -> None:
    """In place: AdamW, a cosine after a short warm-up."""
    torch.manual_seed(seed)
    model.requires_grad_(False)
    weights = list(model.slots.transition.requires_grad_().parameters())  # type: ignore[union-attr]
    optimiser = torch.optim.AdamW(weights, rate, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for step in range(steps):
        share = min(1.0, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / steps)) / 2
        optimiser.param_groups[0]["lr"] = rate * share
        chosen = torch.randint(len(pairs), (batch,), generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            loss = losses(model, pairs, chosen).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step + 1} of {steps}: {loss.item():.3f} nats a code", flush=True)
    model.eval().requires_grad_(True)


@torch.no_grad()
def score(model: UnifiedModel, pairs: Pairs) -> float:
    """Mean nats a code."""
    parts = torch.arange(len(pairs)).split(64)
    return float(torch.cat([losses(model, pairs, part) for part in parts]).mean())


def main(arguments: list[str] | None = None) -> int:
    options = parser("transition", "Trains a model's transition alone.")
    options.add_argument("--hidden", type=count, default=96, help="its channels (default 96)")
    options.add_argument("--clips", type=count, default=6000, help=f"clips of {FRAMES} frames (default 6000)")
    options.add_argument("--steps", type=count, default=6000)
    options.add_argument("--batch", type=count, default=32)
    options.add_argument("--rate", type=_rate, default=4e-3, help="learning rate (default 0.004)")
    options.add_argument(
        "--workers", type=count, default=os.cpu_count() or 1, help="processes that watch clips"
    )
    options.add_argument("--seed", type=seed, default=0, help="of the clips and of their order (default 0)")
    return rewrite(options, _change, arguments)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, got {text}")
    return rate


def _change(
    model: UnifiedModel, processor: Processor, options: argparse.Namespace
) -> tuple[UnifiedModel, str]:
    if processor.visual is None or processor.action is None:
        raise ValueError("a transition needs a model with a visual tokenizer and an action tokenizer")
    model = with_transition(model, options.hidden)
    config = WorldConfig(size=SIDE, frames=FRAMES, players=EVERY_KEY, seed=options.seed)
    pairs = pairs_of(watched(config, "train", options.clips, options.workers), processor)
    print(f"{len(pairs)} pairs of frames", flush=True)
    train(model, pairs, options.steps, batch=options.batch, rate=options.rate, seed=options.seed)
    held_out = watched(config, "validation", HELD_OUT, options.workers)
    return model, f"{score(model, pairs_of(held_out, processor)):.3f} nats a code on held-out frames"


if __name__ == "__main__":
    sys.exit(main())
