"""Training of an arm: the transition on pairs of pictures, then the decoder on pieces of traces.

The transition is the rule by which one sketch follows from the one before. It learns from pairs alone, with
the embeddings of codes and the head between which it stands; then these are kept as they are, and the decoder
learns when to go on, when to walk, and what to say.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from unified.tasks.mazes.fill_task import MazeFillTask
from unified.train.experiments.sketchpad.codec import COPY
from unified.train.experiments.sketchpad.traces import Piece, Told, is_read_off, pairs, piece, told
from unified.train.optimiser import is_inner, muon
from unified.train.preference.collator import padded
from unified.train.transition import transition_of

from unified.heads import log_prob
from unified.layout.layout import IGNORED, Layout
from unified.model import UnifiedModel
from unified.precision import autocast
from unified.stream.messages import Stream

CHANGED = 8.0  # weight of a code that changes, in the loss of pairs, beside one that stays
SILENT = 0.3  # share of the pairs of a walk without the action that was read off, as a piece may begin
DECAY = 0.01
WARMUP = 20


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Of one arm. `traces`: mazes of the training split, each used many times. `pairs` steps of `pair_batch`
    pairs for the transition, then `steps` of `batch` pieces of at most `page` sketches for the decoder.
    `seconds`: neither goes on when so many, of its share by steps, are over. The rates are Muon's and
    AdamW's."""

    traces: int = 2000
    pairs: int = 1000
    pair_batch: int = 16
    steps: int = 800
    batch: int = 8
    page: int = 1
    seconds: float | None = None
    rate: float = 3e-3


@dataclass(frozen=True)
class Spent:
    """What training took: steps of both kinds, the seconds of each, and the latest losses."""

    pairs: int
    steps: int
    seconds: float
    pair_loss: float
    text_loss: float


def train(
    model: UnifiedModel, stream: Stream, form: str, task: MazeFillTask, budget: Budget, seed: int
) -> Spent:
    """An arm, in place. Forms without sketches have no pairs, and their pieces are whole traces."""
    began = time.monotonic()
    traces = [told(form, task, seed * budget.traces + number) for number in range(budget.traces)]
    sketched = any(len(one) for one in traces)
    limit = budget.seconds
    done, pair_loss = (0, math.nan)
    if sketched:
        done, pair_loss = train_transition(
            model, stream, traces, budget, seed, None if limit is None else began + 0.4 * limit
        )
        freeze(model)
    until = None if limit is None else began + limit
    steps, loss = train_decoder(model, stream, form, traces, budget, seed, until)
    model.eval()
    return Spent(done, steps, time.monotonic() - began, pair_loss, loss)


def train_transition(
    model: UnifiedModel,
    stream: Stream,
    traces: Sequence[Told],
    budget: Budget,
    seed: int,
    until: float | None = None,
) -> tuple[int, float]:
    """Pairs of pictures, until so many steps or that time. Returns the steps done and the last loss."""
    before, texts, after = zip(*pairs(traces), strict=True)
    before, after = (torch.from_numpy(np.stack(codes)) for codes in (before, after))
    ids = {text: list(stream.text.encode(text, add_special_tokens=False)) for text in {*texts, ""}}
    rng = torch.Generator().manual_seed(seed)
    transition = transition_of(model).requires_grad_()
    trained = [*transition.parameters(), model.head.embedding.weight, model.head.projection.weight]
    optimiser = torch.optim.AdamW(trained, budget.rate, weight_decay=DECAY)
    side = math.isqrt(before.shape[1])
    sizes = torch.tensor([[side, side]]).expand(budget.pair_batch, 2)
    step, loss = 0, torch.tensor(math.nan)
    model.train()
    for step in schedule(optimiser, budget.rate, budget.pairs, until):  # noqa: B007
        chosen = torch.randint(len(before), (budget.pair_batch,), generator=rng)
        source, target = before[chosen], after[chosen]
        said = [texts[int(number)] for number in chosen]
        silent = torch.rand(len(said), generator=rng) < SILENT
        said = ["" if quiet and is_read_off(text) else text for text, quiet in zip(said, silent, strict=True)]
        words = [torch.tensor(ids[text], dtype=torch.long) for text in said]
        steer = torch.stack([model.embed_ids(some).sum(dim=0) for some in words])
        with autocast():
            images = model.head.embed(source).unflatten(1, (side, side))
            found = transition(images, sizes, steer.detach()).flatten(1, 2)
            logits = model.head.logits(COPY * nn.functional.rms_norm(found, found.shape[-1:]))
        weights = torch.where(source != target, CHANGED, 1.0)
        nats = -log_prob(logits, model.head.to_symbols(target))
        loss = (weights * nats).sum() / weights.sum()
        descend(optimiser, trained, loss)
    return step, float(loss.detach())


def train_decoder(
    model: UnifiedModel,
    stream: Stream,
    form: str,
    traces: Sequence[Told],
    budget: Budget,
    seed: int,
    until: float | None = None,
) -> tuple[int, float]:
    """Pieces of traces, until so many steps or that time. Returns the steps done and the last loss of
    text."""
    rng = np.random.default_rng([seed, 1])
    optimiser = muon(model.named_parameters(), is_inner, budget.rate, DECAY)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    step, text = 0, torch.tensor(math.nan)
    model.train()
    model.attention = "by_sample"  # rows of different lengths
    for step in schedule(optimiser, budget.rate, budget.steps, until):  # noqa: B007
        pieces = []
        for _ in range(budget.batch):
            one = traces[int(rng.integers(len(traces)))]
            first = int(rng.integers(max(1, len(one) + 1)))
            pieces.append(piece(stream, form, one, first, budget.page))
        with autocast():
            text, codes = losses(model, pieces)
        descend(optimiser, trained, text + codes)
    model.attention = "sdpa"
    return step, float(text.detach())


def losses(model: UnifiedModel, pieces: Sequence[Piece]) -> tuple[Tensor, Tensor]:
    """Mean nats of the text ids, and of the codes, of pieces; zero where there are none."""
    words = model.vocabulary
    ids = padded([one.ids for one in pieces], words)
    layout = Layout.of(ids, words)
    labels = targets(layout.labels(ids), pieces, words.write)
    found = model(ids, labels=labels, layout=layout, return_logits=False).log_probs
    target = labels != IGNORED
    visual = target & words.is_visual(ids)
    return _mean(found, target & ~visual), _mean(found, visual)


def targets(labels: Tensor, pieces: Sequence[Piece], write: int) -> Tensor:
    """Labels [B, T] of pieces, in place: where an unfinished one stops, the next sketch is begun."""
    for row, one in enumerate(pieces):
        labels[row, one.stop :] = IGNORED
        if one.stop < len(one.ids):
            labels[row, one.stop] = write
    return labels


def freeze(model: UnifiedModel) -> None:
    """The transition and what it stands between, the words that steer it included, stay as they are."""
    kept: list[nn.Module] = [transition_of(model), model.head, model.get_input_embeddings()]
    for module in kept:
        module.requires_grad_(False)


def schedule(optimiser: torch.optim.Optimizer, rate: float, count: int, until: float | None) -> Iterator[int]:
    """1, 2, ... with a warm-up and a linear fall of the learning rate, by steps or by time, whichever is
    further."""
    began = time.monotonic()
    for step in range(1, count + 1):
        gone = (step - 1) / count
        if until is not None:
            gone = max(gone, (time.monotonic() - began) / max(until - began, 1e-9))
        if gone >= 1:
            return
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, step / WARMUP) * max(0.02, 1 - gone)
        yield step


def descend(optimiser: torch.optim.Optimizer, trained: Sequence[Tensor], loss: Tensor) -> None:
    """One step down the gradient, whose norm is clipped at 1."""
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(trained, 1.0)
    optimiser.step()


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return -(values * mask).sum() / mask.sum().clamp(min=1)
