"""Packed rows of ids: row n of a stage is the same whatever the number of processes and wherever one resumes.

All rows of one step form a block that depends on (seed, stage, step) alone: sources are drawn by their shares
at that step, samples at random, and packed. A process takes its rows of the block. Each row carries factors
on the loss that are normalised over the whole block, so the mean over rows, micro-batches and processes is
the mean over the targets of the step.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from unified.train.prepared import Prepared, target_kinds
from unified.train.stage import KINDS, Stage
from unified.train.throughput import Work

from unified.layout.layout import IGNORED, Layout, pack
from unified.model import UnifiedModel
from unified.orders import Plan
from unified.orders.shapes import area
from unified.stream.segments import Kind, segments
from unified.stream.vocabulary import Vocabulary

FULL = 0.97  # of a block's room is drawn; the rest is what packing leaves over
COARSE = 4  # side of the largest map that is learned of a coarse image


@dataclass(frozen=True)
class Block:
    """`ids` and `owners` [rows, length]: the sample each id belongs to, -1 for padding. By sample: `tasks`
    (number of its source), `null` (words are left out), `coarse` (large maps are not learned),
    `factors` [n, 3] on text, action and image targets."""

    ids: Tensor
    owners: Tensor
    tasks: np.ndarray
    null: np.ndarray
    coarse: np.ndarray
    factors: np.ndarray


class Batches(Protocol):
    """What the trainer asks of its data. `names`: of the tasks that a batch numbers; `paired`: whether rows
    2i and 2i + 1 are the preferred and the other reply to one prompt."""

    vocabulary: Vocabulary
    names: list[str]
    paired: bool

    def collator(self, *, everywhere: bool) -> Callable[[Sequence[Any]], dict[str, Any]]:
        """Items -> a batch, see `Collator`."""
        ...


class Rows(Dataset):
    """`steps * rows` rows; row n belongs to step n // rows. `sources` go by the names of the mixture."""

    paired = False

    def __init__(self, stage: Stage, sources: dict[str, Prepared], vocabulary: Vocabulary, seed: int) -> None:
        self.stage, self.vocabulary, self.seed = stage, vocabulary, seed
        self.names = list(sources)
        self.sources = list(sources.values())
        self.fits = [np.flatnonzero(source.lengths <= stage.batch.length) for source in self.sources]
        for name, fitting in zip(self.names, self.fits, strict=True):
            if name in stage.shares(0) and not len(fitting):
                raise ValueError(f"no sample of {name} fits a row of {stage.batch.length} ids: raise length")
        self._latest: tuple[int, Block] = (-1, None)  # type: ignore[assignment]

    def __len__(self) -> int:
        return self.stage.steps * self.stage.batch.rows

    def collator(self, *, everywhere: bool) -> Collator:
        return Collator(self.vocabulary, everywhere=everywhere, balance=self.stage.loss_weights.balance)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """A row: `ids`, `tasks` (number of the source, -1: padding), `null`, `coarse`, `factors` [length,
        3]."""
        step, row = divmod(number, self.stage.batch.rows)
        if step != self._latest[0]:
            self._latest = (step, self.block(step))
        block = self._latest[1]
        owners = block.owners[row].numpy()
        inside = owners >= 0
        return {
            "ids": block.ids[row],
            "tasks": torch.from_numpy(np.where(inside, block.tasks[owners], -1)),
            "null": torch.from_numpy(inside & block.null[owners]),
            "coarse": torch.from_numpy(inside & block.coarse[owners]),
            "factors": torch.from_numpy(np.where(inside[:, None], block.factors[owners], 0.0)).float(),
        }

    def block(self, step: int) -> Block:
        """All rows of one step."""
        rng = np.random.default_rng([self.seed, zlib.crc32(self.stage.name.encode()), step])
        tasks, numbers, samples = self._draw(rng, step)
        targets = np.array([self.sources[t].targets[n] for t, n in zip(tasks, numbers, strict=True)])
        targets[[ids[-1] != self.vocabulary.end for ids in samples], 0] -= 1  # a cut sample has lost its end
        coarse = self._coarse(rng, tasks)
        for n in np.flatnonzero(coarse):
            targets[n, 2] = self._coarse_codes(samples[n])
        drop = rng.random(len(tasks)) < self.stage.data.condition_dropout
        write = self.vocabulary.write
        null = np.array([bool(d) and write in ids for d, ids in zip(drop, samples, strict=True)])
        samples = [self.without_words(ids) if n else ids for n, ids in zip(null, samples, strict=True)]
        ids, owners = self._pack(samples)
        kept = np.unique(owners[owners >= 0].numpy())
        factors = self._factors(tasks, targets, null, kept)
        return Block(ids=ids, owners=owners, tasks=tasks, null=null, coarse=coarse, factors=factors)

    def _coarse(self, rng: np.random.Generator, tasks: np.ndarray) -> np.ndarray:
        """[n] bool: samples whose images are learned coarsely."""
        shares = np.array([self.stage.data.coarse.get(name, 0.0) for name in self.names])[tasks]
        return rng.random(len(tasks)) < shares if shares.any() else np.zeros(len(tasks), dtype=bool)

    def _coarse_codes(self, ids: list[int]) -> int:
        """How many codes of a sample's images belong to maps that are learned coarsely."""
        written = [s.shapes for s in segments(ids, self.vocabulary) if s.kind == Kind.WRITE]
        return sum(area([shape for shape in shapes if max(shape) <= COARSE]) for shapes in written)

    def without_words(self, ids: Sequence[int]) -> list[int]:
        """A sample as the null branch of guidance reads it: the model's own rule, which needs the vocabulary
        alone."""
        return UnifiedModel.null_stream(self, ids)  # type: ignore[arg-type]

    def _draw(self, rng: np.random.Generator, step: int) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
        """Sources, numbers and ids of the samples that fill a block: shares are of ids (before any cut), not
        of samples."""
        shares = self.stage.shares(step)
        rates = np.array([shares.get(name, 0.0) for name in self.names]) / self._means
        room = FULL * self.stage.batch.rows * self.stage.batch.length
        tasks: list[int] = []
        numbers: list[int] = []
        samples: list[list[int]] = []
        while True:
            task = int(rng.choice(len(self.names), p=rates / rates.sum()))
            fits = self.fits[task]
            number = int(fits[int(rng.integers(len(fits)))])
            ids = self.sources[task].ids(number)
            if rng.random() < self.stage.data.cut:
                ids = self.cut(ids)
            room -= len(ids)
            if room < 0 and samples:
                return np.array(tasks), np.array(numbers), samples
            tasks.append(task)
            numbers.append(number)
            samples.append(ids)

    def cut(self, ids: list[int]) -> list[int]:
        """A sample that ends with a drawn image, without its READ part and the end; others as they are."""
        words = self.vocabulary
        if len(ids) < 2 or ids[-2] != words.close or words.write not in ids:
            return ids
        read = len(ids) - 1 - ids[::-1].index(words.read)
        return ids[:read] if ids[read - 1] == words.close else ids

    @cached_property
    def _means(self) -> np.ndarray:
        """Mean length by source of the samples that fit."""
        pairs = zip(self.sources, self.fits, strict=True)
        return np.array([source.lengths[fits].mean() if len(fits) else 1.0 for source, fits in pairs])

    def _pack(self, samples: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Rows of ids and of owners. Samples drawn last are left out until the rest fits the block."""
        words, rows, length = self.vocabulary, self.stage.batch.rows, self.stage.batch.length
        while True:
            ids = pack(samples, length, words)
            if len(ids) <= rows:
                break
            samples = samples[:-1]
        marked = [[words.begin, *[words.size + n] * (len(ids) - 1)] for n, ids in enumerate(samples)]
        owners = pack(marked, length, words)  # packing sees lengths alone: the same places
        owners = torch.where(owners == words.begin, owners.roll(-1, dims=1), owners) - words.size
        missing = rows - len(ids)
        ids = torch.nn.functional.pad(ids, (0, 0, 0, missing), value=words.pad)
        return ids, torch.nn.functional.pad(owners.clamp(min=-1), (0, 0, 0, missing), value=-1)

    def _factors(
        self, tasks: np.ndarray, counts: np.ndarray, null: np.ndarray, kept: np.ndarray
    ) -> np.ndarray:
        """[n, 3]: weight of a target, scaled so that all targets of the block add up to its rows. A sample
        without words teaches images alone: what it says could not be known."""
        kinds = np.array([self.stage.loss_weights.kinds.get(kind, 1.0) for kind in KINDS])
        by_task = np.array([self.stage.loss_weights.tasks.get(name, 1.0) for name in self.names])
        factors = by_task[tasks][:, None] * kinds
        factors[null, :2] = 0.0
        total = (factors * counts)[kept].sum()
        return factors * (self.stage.batch.rows / total if total > 0 else 0.0)


def map_weights(plan: Plan, balance: float) -> Tensor:
    """[T] float: factors on the loss of an image's codes, with mean 1. With 0 every code counts the same,
    with 1 every map: the small maps decide what is where, the last holds most of the codes."""
    weights = plan.sizes.prod(dim=1).float() ** -balance
    return weights / weights.mean()


class Collator:
    """Rows -> a batch: `input_ids`, `labels`, `layout`, `weights` [B, T] on the loss of each target, `tasks`
    [B, T], `parts` [B, T] (0 text, 1 action, 2 + side of the map of an image code). With `everywhere` a batch
    that draws nothing gets `silent` rows that do, without weight: parallel training wants every parameter
    used. `rows`: how many were given. `work`: what the batch costs."""

    def __init__(
        self, vocabulary: Vocabulary, *, everywhere: bool = False, balance: float = 0.0, silent: int = 1
    ) -> None:
        self.vocabulary, self.everywhere, self.balance = vocabulary, everywhere, balance
        self.silent = silent

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        if self.everywhere and not bool((batch["ids"] == self.vocabulary.write).any()):
            drawing = {name: [self._drawing(name, value)] * self.silent for name, value in batch.items()}
            batch = {name: torch.cat([value, *drawing[name]]) for name, value in batch.items()}
        layout = Layout.of(batch["ids"], self.vocabulary)
        kinds = target_kinds(layout)
        labels = layout.labels(batch["ids"]).masked_fill(batch["null"] & (kinds < 2), IGNORED)
        weights = batch["factors"].gather(2, kinds[..., None])[..., 0]
        parts = kinds.clone()
        dropped = torch.zeros_like(batch["coarse"])
        for group in layout.writes:
            sides = group.plan.sizes.amax(dim=1)
            parts[group.rows[:, None], group.slots()] = 2 + sides[None].expand(len(group.rows), -1)
            weights[group.rows[:, None], group.slots()] *= map_weights(group.plan, self.balance)
            fine = batch["coarse"][group.rows, group.starts][:, None] & (sides > COARSE)
            dropped[group.rows[:, None], group.slots()] = fine
        if layout.merging is not None and bool(dropped.any()):
            layout = replace(layout, merging=layout.merging.without(dropped))
        labels = labels.masked_fill(dropped, IGNORED)
        return {
            "input_ids": batch["ids"],
            "labels": labels,
            "layout": layout,
            "weights": weights.masked_fill(labels == IGNORED, 0.0),
            "tasks": batch["tasks"],
            "parts": parts,
            "rows": len(rows),
            "work": Work.of(layout, labels),
        }

    def _drawing(self, name: str, like: Tensor) -> Tensor:
        """A row that draws an image of one code, as an entry of the batch."""
        row = torch.zeros_like(like[:1])
        if name == "tasks":
            return row - 1
        if name != "ids":
            return row
        return drawing_row(self.vocabulary, like.shape[1])


def drawing_row(words: Vocabulary, length: int) -> Tensor:
    """[1, length]: a row that draws an image of one code."""
    image = [*words.open_write(words.order_names[0], [(1, 1)]), words.visual_start, words.close]
    sample = [words.begin, words.assistant, *image, *words.read_segment([0], [(1, 1)]), words.end]
    return pack([sample], length, words)
