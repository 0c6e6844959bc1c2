"""Trains a model's transition alone: the next frame's codes from a frame and an action.

    python -m unified.train.transition --model FOLDER --out FOLDER --hidden 96 --clips 6000 --steps 6000

Inside the model it learns from some dozen frames a step, beside everything else; alone, between the model's
own embeddings and head, which stay as they are, from many times as many, and over several actions: it goes on
from what it has made itself, as a rollout does, and learns through all of it, from a true frame or from one
some actions on (truncated backpropagation through time). Given none, or one of other channels, the model
gets one. It is then to be trained on as a whole (`start=FOLDER` of a recipe).
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from unified.tasks.worlds import inverse
from unified.tasks.worlds.action_classes import CLASSES
from unified.tasks.worlds.clips import EVERY_KEY, Clip, WorldConfig, watch
from unified.tokenizers.images import to_images
from unified.train.pictures import mapped
from unified.train.rewrite import like, parser, rewrite

from unified.apps.commands.common import count, seed
from unified.apps.settings import SIDE
from unified.extras.references import rescaled
from unified.extras.transition import Transition
from unified.heads import TableHead, log_prob
from unified.model import UnifiedModel
from unified.orders.shapes import Shape
from unified.precision import autocast
from unified.pretrained import find, load_model
from unified.stream.processor import Processor

SHARPNESS = 4.0  # length that embeddings are brought to before the head reads them, per root of their width
FRAMES = 17
WINDOW = 8  # actions that are learned through at once
HIDDEN = 96
WARMUP = 50
HELD_OUT = 64  # clips
RAREST = 10.0  # a clip is drawn at most so many times as often as one in which nothing is pressed


@dataclass(frozen=True)
class Clips:
    """Codes of clips of one size and length [C, F, R], the action ids between their frames [C, F - 1, A] and
    the classes [C, F - 1] that an inverse dynamics model reads there."""

    codes: Tensor
    actions: Tensor
    shape: Shape
    classes: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.codes)

    def until(self, step: int) -> Clips:
        classes = {name: values[:, :step] for name, values in self.classes.items()}
        return Clips(self.codes[:, : step + 1], self.actions[:, :step], self.shape, classes)


@dataclass(frozen=True)
class Reader:
    """An inverse dynamics model of a codebook's vectors [K, C] (`train.reader`), and the weight of what it
    cannot read from imagined frames; `classes`: that of every class."""

    model: inverse.InverseModel
    codebook: Tensor
    weight: float
    classes: Mapping[str, Tensor] | None = None


def watched(config: WorldConfig, split: str, number: int, workers: int) -> Iterator[Clip]:
    """Clips from several processes."""
    return mapped(partial(watch, config, split=split), range(number), workers)


def clips_of(clips: Iterator[Clip], processor: Processor) -> Clips:
    """Clips of one size and length. The processor needs both tokenizers."""
    visual: Any = processor.visual
    codes, actions, classes = [], [], []
    shape: Shape = (0, 0)
    for clip in clips:
        images = to_images(clip.frames)
        shape = (images.shape[2] // visual.stride, images.shape[3] // visual.stride)
        with torch.no_grad():
            codes.append(visual.encode(images, processor.schedule(shape, frame=True))[-1].flatten(1).int())
        acts = [{"type": "action", "action": action} for action in clip.actions]
        ids = torch.tensor(processor.turn({"role": "user", "content": acts}))
        actions.append(ids[processor.vocabulary.is_action(ids)].view(len(acts), -1))
        classes.append(inverse.truth_of(clip.actions))
    truth = {name: torch.from_numpy(np.stack([one[name] for one in classes])) for name in inverse.HEADS}
    return Clips(torch.stack(codes), torch.stack(actions), shape, truth)


def vectors_of(processor: Processor) -> Tensor:
    """Vectors of the codes [K, C] as readers get them, of spread 1."""
    visual: Any = processor.visual
    codebook: Tensor = visual.codebook().detach().float()
    return codebook / codebook.std()


def reader_config(processor: Processor) -> inverse.InverseConfig:
    visual: Any = processor.visual
    return inverse.InverseConfig(channels=visual.codebook().shape[1], size=4 * (SIDE // visual.stride))


def transition_of(model: UnifiedModel) -> Transition:
    """The model's transition, which it must have."""
    return cast("Transition", model.extras["transition"])


def channels_of(model: UnifiedModel) -> int:
    """Channels of the model's transition, 0 without one."""
    return transition_of(model).channels if "transition" in model.extras else 0


def with_transition(model: UnifiedModel, hidden: int) -> UnifiedModel:
    """The model with a transition of so many channels: one that does what its own does if that has fewer,
    and what is left of it if that has more."""
    before = channels_of(model)
    if before == hidden:
        return model
    extras = model.config.extras or {}
    options = {**extras.get("transition", {}), "channels": hidden}
    changed = like(model, extras={**extras, "transition": options})
    kept = {k: v for k, v in model.state_dict().items() if not k.startswith("extras.transition.")}
    changed.load_state_dict(kept, strict=False)
    if before:
        after = transition_of(changed)
        (after.grow if hidden > before else after.shrink)(transition_of(model))
    return changed.eval()


def imagined(
    model: UnifiedModel, codes: Tensor, actions: Tensor, shape: Shape, ahead: int = 0
) -> Iterator[Tensor]:
    """[n, R, D] after each action of [n, F - 1, A], from codes [n, R]: every step goes on from the one
    before, as in a rollout. Nothing is learned through the first `ahead` but for the very first."""
    transition = transition_of(model)
    sizes = torch.tensor([shape]).expand(len(codes), 2)
    images = model.head.embed(codes.long())
    for step in range(actions.shape[1]):
        said = model.embed_ids(actions[:, step]).sum(dim=1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not 0 < step < ahead):
            found = transition(images.unflatten(1, shape), sizes, said)
        found = found.flatten(1, 2)
        yield found
        images = rescaled(found, images)
        images = images.detach() if step < ahead else images


class Told(NamedTuple):
    """[n, steps, R]: the nats that the codes of every frame imagined cost; [n, R, D]: what the head reads of
    the first after a true one, embeddings of length one per root of their width; a scalar: the nats a step
    that the actions cost a reader of the frames, each the mean over codes."""

    nats: Tensor
    read: Tensor
    followed: Tensor


def losses(
    model: UnifiedModel,
    clips: Clips,
    chosen: Tensor,
    reader: Reader | None = None,
    *,
    ahead: int = 0,
    shown: Callable[..., tuple[Tensor, Tensor]] | None = None,
) -> Told:
    """Of clips from the frame on that was imagined after `ahead` actions. `shown`: `_shown`, compiled."""
    codes, codebook = clips.codes[chosen].long(), reader.codebook if reader else None
    nats, first = [], torch.empty(0)
    vectors = [] if codebook is None or ahead else [codebook[codes[:, 0]]]
    steps = imagined(model, codes[:, 0], clips.actions[chosen], clips.shape, ahead)
    for step, images in enumerate(steps, start=1):
        read = torch.nn.functional.rms_norm(images.float(), images.shape[-1:])
        first = read if step == 1 else first
        if step < ahead:
            continue
        told = (shown or _shown)(model.head, read, codes[:, step], codebook)
        vectors.append(told[1])
        if step > ahead:
            nats.append(told[0])
    followed = torch.zeros(())
    if reader:
        said = reader.model(torch.stack(vectors, dim=1).unflatten(2, clips.shape))
        truth = {name: clips.classes[name][chosen, ahead:] for name in inverse.HEADS}
        followed = inverse.cost(said, truth, reader.classes)
    return Told(torch.stack(nats, dim=1), first, followed)


def _shown(head: TableHead, read: Tensor, codes: Tensor, codebook: Tensor | None) -> tuple[Tensor, Tensor]:
    """Nats that the codes [n, R] cost, and the mean vector [n, R, C] of what the head expects there, of a
    codebook [K, C], if any; from what it reads [n, R, D]."""
    logits = head.logits(read * SHARPNESS)
    nats = -log_prob(logits, head.to_symbols(codes))
    if codebook is None:
        return nats, nats
    return nats, logits[..., 0, :].float().softmax(dim=-1).to(codebook) @ codebook


def shares(clips: Clips) -> Tensor:
    """[C]: how often clips are drawn to learn from: as the root of how rare the rarest of their keys is."""
    found = torch.ones(len(clips))
    for name in CLASSES.keys() & clips.classes.keys():
        classes = clips.classes[name]
        rare = (classes.numel() / classes.flatten().bincount().clamp(min=1)).sqrt()
        found = torch.maximum(found, rare[classes].amax(dim=1))
    return found.clamp(max=RAREST)


def class_weights(clips: Clips) -> dict[str, Tensor]:
    """Weights of the classes of every head, as the root of how rare each is, of mean 1 over the clips: what
    is measured, the mean of the classes' F1, weighs a rare key as much as one that is often pressed."""
    found = {}
    for name, size in inverse.HEADS.items():
        counts = clips.classes[name].flatten().bincount(minlength=size).float()
        roots = counts.sqrt()
        found[name] = counts.sum() / roots.sum() / roots.clamp(min=1)
    return found


def train(
    model: UnifiedModel,
    clips: Clips,
    steps: int,
    *,
    batch: int,
    rate: float,
    keep: float = 0.0,
    kept: UnifiedModel | None = None,
    reader: Reader | None = None,
    seed: int = 0,
    compiled: bool = False,
) -> None:
    """In place: AdamW, a cosine after a short warm-up, through `WINDOW` steps of a clip, from its first frame
    on or after as many as leave room. `keep`: weight of the squared distance to what the first step's
    embeddings are in `kept`, or were before. `reader`: frames are to show what was done, too."""
    shown = torch.compile(_shown, dynamic=False) if compiled else _shown
    spare = range(0, max(0, clips.actions.shape[1] - WINDOW) + 1, WINDOW // 2)
    torch.manual_seed(seed)
    first = kept or (copy.deepcopy(model) if keep else model)
    model.requires_grad_(False)
    weights = list(transition_of(model).requires_grad_().parameters())
    optimiser = torch.optim.AdamW(weights, rate, weight_decay=0.01)
    generator, drawn = torch.Generator().manual_seed(seed), shares(clips)
    model.train()
    for step in range(steps):
        share = min(1.0, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / steps)) / 2
        optimiser.param_groups[0]["lr"] = rate * share
        chosen = drawn.multinomial(batch, replacement=True, generator=generator)
        ahead = spare[int(torch.randint(len(spare), (), generator=generator))]
        window = clips.until(min(ahead + WINDOW, clips.actions.shape[1]))
        with autocast():
            told = losses(model, window, chosen, reader, ahead=ahead, shown=shown)
            loss = told.nats.mean() + (reader.weight if reader else 0) * told.followed
            if keep:
                with torch.no_grad():
                    known = losses(first, clips.until(1), chosen).read
                loss = loss + keep * (told.read - known).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        if step % 100 == 0 or step == steps - 1:
            seen = f", {told.followed.item():.3f} an action read back" if reader else ""
            nats = f"{told.nats.mean().item():.3f} nats a code"
            print(f"step {step + 1} of {steps}: after {ahead} actions {nats}{seen}", flush=True)
    model.eval().requires_grad_(True)


@torch.no_grad()
def score(model: UnifiedModel, clips: Clips) -> list[float]:
    """Mean nats a code after 1, 2, ... actions."""
    parts = torch.arange(len(clips)).split(16)
    nats = torch.cat([losses(model, clips, part).nats for part in parts])
    found: list[float] = nats.mean(dim=(0, 2)).tolist()
    return found


def main(arguments: list[str] | None = None) -> int:
    options = parser("transition", "Trains a model's transition alone.")
    options.add_argument("--hidden", type=count, help=f"its channels (default: as it has, or {HIDDEN})")
    options.add_argument("--clips", type=count, default=6000, help=f"clips of {FRAMES} frames (default 6000)")
    options.add_argument(
        "--players", nargs="+", default=EVERY_KEY, help="who is watched (default: all but probe)"
    )
    options.add_argument("--steps", type=count, default=6000)
    options.add_argument("--batch", type=count, default=8, help="clips a step (default 8)")
    options.add_argument("--rate", type=_rate, default=2e-3, help="learning rate (default 0.002)")
    options.add_argument(
        "--keep",
        type=_weight,
        default=0.0,
        help="weight of what a first step's embeddings were before: above 0 a backbone trained beside them "
        "can go on reading them, without more training (default 0)",
    )
    options.add_argument("--kept", help="beside whose first steps the backbone was trained (default: MODEL)")
    options.add_argument("--reader", type=Path, help="reads actions back (`unified.train.reader`)")
    options.add_argument(
        "--follow", type=_weight, default=0.2, help="weight of what it cannot read (default 0.2)"
    )
    options.add_argument(
        "--compile", action="store_true", help="through torch.compile: faster, with a C++ compiler"
    )
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


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
    if not 0 <= weight < math.inf:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {text}")
    return weight


def _reader(path: Path, model: UnifiedModel, processor: Processor, weight: float) -> Reader:
    found, wanted = inverse.load(path), reader_config(processor)
    if (found.config.channels, found.config.size) != (wanted.channels, wanted.size):
        raise ValueError(f"{path} does not read this model's frames: train one with unified.train.reader")
    if model.head.symbols != 1:
        raise ValueError("a reader needs a model with a softmax over one codebook")
    return Reader(found.requires_grad_(False), vectors_of(processor), weight)


def _change(
    model: UnifiedModel, processor: Processor, options: argparse.Namespace
) -> tuple[UnifiedModel, str]:
    if processor.visual is None or processor.action is None:
        raise ValueError("a transition needs a model with a visual tokenizer and an action tokenizer")
    kept = load_model(find(options.kept))[0] if options.kept else None
    if kept and (not channels_of(kept) or kept.config.vocabulary != model.config.vocabulary):
        raise ValueError(f"{options.kept} is not a model with a transition and the same vocabulary")
    if kept and not options.keep:
        raise ValueError("--kept says what is kept, --keep how much: give both")
    reader = _reader(options.reader, model, processor, options.follow) if options.reader else None
    before, model = model, with_transition(model, options.hidden or channels_of(model) or HIDDEN)
    if kept is None and model is not before and channels_of(before):
        kept = before
    config = WorldConfig(size=SIDE, frames=FRAMES, players=tuple(options.players), seed=options.seed)
    clips = clips_of(watched(config, "train", options.clips, options.workers), processor)
    print(f"{len(clips)} clips of {FRAMES} frames", flush=True)
    how = {name: getattr(options, name) for name in ("batch", "rate", "keep", "seed")}
    if reader:
        reader = replace(reader, classes=class_weights(clips))
    train(model, clips, options.steps, kept=kept, reader=reader, compiled=options.compile, **how)
    held_out = watched(config, "validation", HELD_OUT, options.workers)
    nats = score(model, clips_of(held_out, processor))
    after = f"{nats[-1]:.3f} after {len(nats)} actions"
    return model, f"{nats[0]:.3f} nats a code on held-out frames after one action, {after}"


if __name__ == "__main__":
    sys.exit(main())
