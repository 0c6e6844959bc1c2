"""Training of the arm: words and latents together, on pieces of one sketch first, then on those of a page.

The published stages train the words with true pictures, then the head with all else frozen. Nothing is
pretrained here, and in these traces a sketch comes before its words: a frozen model would have no reason to
know, where a sketch begins, what it should show. So both losses train all but the vision tower and the
connector's norm, which make the targets. The loss of latents is L1, as published; cells that change weigh as
the codes that change do in the other arms. AdamW steps
all weights: at batches so small, Muon would cost as much as the passes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from unified.tasks.mazes.fill_task import MazeFillTask
from unified.tasks.mazes.tiles import TILE
from unified.train.experiments.sketchpad.codec import PATCH, picture_of
from unified.train.experiments.sketchpad.latents.model import encode
from unified.train.experiments.sketchpad.traces import Told, parts, question, told
from unified.train.experiments.sketchpad.training import CHANGED, DECAY, Budget, Spent, descend, schedule
from unified.train.optimiser import BETAS
from unified.train.sketchpad.rows import IGNORED, Batch, Row, batch_of
from unified.train.sketchpad.stages import words_loss

from unified.vision_language.processor import PretrainedProcessor
from unified.vision_language.sketchpad.model import Sketchpad


@dataclass(frozen=True)
class Piece:
    """A row of a batch, and which cells of each of its sketches differ from the picture before [s, n]."""

    row: Row
    changed: Tensor


def train(
    pad: Sketchpad, processor: PretrainedProcessor, form: str, task: MazeFillTask, budget: Budget, seed: int
) -> Spent:
    """The arm, in place: `budget.pairs` steps of `pair_batch` pieces of one sketch, then `budget.steps` of
    `batch` pieces of a page."""
    began = time.monotonic()
    traces = [told(form, task, seed * budget.traces + number) for number in range(budget.traces)]
    trainer = Trainer(pad, processor, form, traces, seed)
    limit = budget.seconds
    halfway = None if limit is None else began + 0.4 * limit
    done, _, pair_loss = trainer.run(budget.pairs, budget.pair_batch, 1, budget.rate, halfway)
    until = None if limit is None else began + limit
    steps, loss, _ = trainer.run(budget.steps, budget.batch, budget.page, budget.rate, until)
    return Spent(done, steps, time.monotonic() - began, pair_loss, loss)


class Trainer:
    """Draws pieces of `traces` and steps down their losses; all that does not train is frozen here."""

    def __init__(
        self, pad: Sketchpad, processor: PretrainedProcessor, form: str, traces: Sequence[Told], seed: int
    ) -> None:
        self.pad, self.processor, self.traces = pad, processor, traces
        self.rng = np.random.default_rng([seed, 1])
        self.dropped = torch.Generator().manual_seed(seed)
        asked = question(form, picture_of(traces[0].pictures[0]))
        self.prompt = processor.prompt(asked).ids  # equal for all pictures
        self.module = nn.ModuleDict({"model": pad.reader.pretrained, "head": pad.head})
        self.module.requires_grad_(True)
        model = pad.reader.pretrained.model
        model.vision_tower.requires_grad_(False)
        model.multi_modal_projector.mm_soft_emb_norm.requires_grad_(False)

    def run(
        self, count: int, batch: int, most: int, rate: float, until: float | None
    ) -> tuple[int, float, float]:
        """Steps on pieces of at most `most` sketches. Returns the steps done, and the last losses of words
        and latents."""
        trained = [weight for weight in self.module.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(trained, rate, betas=BETAS, weight_decay=DECAY)
        step, words, latents = 0, torch.tensor(torch.nan), torch.tensor(torch.nan)
        self.module.train()
        for step in schedule(optimiser, rate, count, until):  # noqa: B007
            words, latents = self.losses([self.drawn(most) for _ in range(batch)])
            descend(optimiser, trained, words + latents)
        self.module.eval()
        return step, float(words.detach()), float(latents.detach())

    def drawn(self, most: int) -> Piece:
        """A piece that begins at any picture of any trace but its last."""
        one = self.traces[int(self.rng.integers(len(self.traces)))]
        return self.piece(one, int(self.rng.integers(max(1, len(one)))), most)

    def piece(self, one: Told, first: int, most: int) -> Piece:
        """From picture `first` on, at most `most` sketches. The id that begins a sketch is a target, that of
        the sketch after an unfinished piece too: the model opens sketches itself."""
        pad, words = self.pad, self.processor.tokenizer
        ids, labels = list(self.prompt), [IGNORED] * len(self.prompt)
        found, ends = parts(one, first, most)
        for part in found:
            if isinstance(part, str):
                said = words(part, add_special_tokens=False)["input_ids"]
                ids, labels = ids + said, labels + said
            else:
                ids += [pad.begin, *[pad.reader.image] * pad.tokens, pad.end]
                labels += [pad.begin, *[IGNORED] * (pad.tokens + 1)]
        last = pad.reader.vocabulary.end if ends else pad.begin
        ids, labels = [*ids, last], [*labels, last]
        count = sum(not isinstance(part, str) for part in found)
        pictures = one.pictures[first : first + count + 1]
        images = encode(pad, [picture_of(codes) for codes in pictures])
        written = [False] + [True] * count
        return Piece(Row(ids, labels, images, written), changed_cells(pictures))

    def losses(self, pieces: Sequence[Piece]) -> tuple[Tensor, Tensor]:
        """Mean nats of the words, and weighted mean L1 of the latents, of pieces; zero where there are
        none."""
        batch = batch_of(self.pad, [one.row for one in pieces])
        embeds, hidden = self.pad.states(batch.ids, batch.values)
        return words_loss(self.pad, batch.labels, hidden), self._latents(batch, embeds, hidden, pieces)

    def _latents(self, batch: Batch, embeds: Tensor, hidden: Tensor, pieces: Sequence[Piece]) -> Tensor:
        """Of every sketch of every row, given the true pictures before it."""
        rows, prefix, drawn = sketches_of(batch.ids == self.pad.reader.image, self.pad.tokens)
        if not len(rows):
            return hidden.new_zeros(())
        found = self.pad.predict(embeds[rows], hidden[rows], prefix, drawn, self.dropped).vision
        targets = torch.stack([one for piece in pieces for one in piece.row.images.features[1:]])
        apart = (found - self.pad.connector.norm(targets)).abs().mean(dim=-1)  # [S, n]
        weights = torch.cat([piece.changed for piece in pieces]).float() * (CHANGED - 1) + 1
        return (weights * apart).sum() / weights.sum()


def sketches_of(image: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of rows whose placeholders are marked [B, T], `count` for each image, the first one given: for each
    sketch its row [S], and the placeholders before its own and its own [S, T] bool."""
    number = (image.cumsum(dim=1) - 1) // count  # of the image that a placeholder is of
    found = [(row, k) for row, most in enumerate(number.amax(dim=1).tolist()) for k in range(1, most + 1)]
    rows = torch.tensor([row for row, _ in found], dtype=torch.long)
    own = torch.tensor([k for _, k in found], dtype=torch.long)[:, None]
    return rows, image[rows] & (number[rows] < own), image[rows] & (number[rows] == own)


def changed_cells(pictures: np.ndarray) -> Tensor:
    """Of pictures in codes [s + 1, R]: which cells of each but the first differ from the one before [s,
    n]."""
    cell, side = TILE // PATCH, round(pictures.shape[1] ** 0.5)
    apart = (pictures[1:] != pictures[:-1]).reshape(-1, side // cell, cell, side // cell, cell)
    return torch.from_numpy(apart.any(axis=(2, 4)).reshape(len(pictures) - 1, -1))
