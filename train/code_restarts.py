"""Codes that no map uses are moved onto vectors that no code is near to: a remedy against collapse, which
hits the 1 x 1 and 2 x 2 maps first because they see so few vectors. `tests/train/test_tokenizer.py` shows
the effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from unified.tokenizers.codebook import PlainCodebook
from unified.tokenizers.quantise import k_means, nearest
from unified.tokenizers.resize import Shape
from unified.tokenizers.schedules import ladder
from unified.tokenizers.visual import Book


@dataclass(frozen=True, kw_only=True)
class RestartConfig:
    """The codes start from the vectors of `first` batches, of the full map and of coarser ones of the longer
    `sides` (none: of random ones): one batch is drawn from, more are clustered (k-means, `rounds`). Every
    `every` steps, until the share `until` of training, move codes used less than `threshold` of an even
    share."""

    first: int = 1
    sides: tuple[int, ...] = ()
    rounds: int = 10
    every: int = 10
    threshold: float = 0.05
    until: float = 0.7
    memory: float = 0.95  # of the running use, per step

    def __post_init__(self) -> None:
        if (
            min(self.first, self.every, self.rounds, *self.sides) < 1
            or not 0 < self.memory < 1
            or not 0 <= self.until <= 1
        ):
            raise ValueError(
                "first, every, rounds and sides must be at least 1, memory lie in (0, 1), until in [0, 1]"
            )


def books_of(tokenizer: Any) -> list[Book]:
    """The tables of a tokenizer whose rows can be moved. ValueError without any."""
    if hasattr(tokenizer, "books"):
        books: list[Book] = tokenizer.books()
        return books
    if not isinstance(getattr(tokenizer, "table", None), PlainCodebook):
        raise ValueError("only a plain codebook can restart codes: set restarts to None")
    unit = bool(getattr(tokenizer.config, "normalised", False))
    return [Book(tokenizer.table.weight, unit=unit)]


class Restarts:
    """Of one table of a tokenizer."""

    def __init__(
        self,
        book: Book,
        config: RestartConfig,
        optimiser: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> None:
        self.book, self.unit = book, book.unit
        self.config, self.optimiser, self.generator = config, optimiser, generator
        self.use = torch.ones(len(book.weight), device=book.weight.device)  # 1 is an even share

    def _own(self, by_map: Sequence[Tensor]) -> Sequence[Tensor]:
        return by_map if self.book.only is None else by_map[self.book.only : self.book.only + 1]

    @torch.no_grad()
    def start(self, candidates: Sequence[Sequence[Tensor]]) -> None:
        """All codes from the vectors of first batches, by batch and map, so that none starts far away."""
        own = [self._own(found) for found in candidates]
        if len(own) == 1:
            self._move(torch.ones_like(self.use, dtype=torch.bool), own[0])
            return
        vectors = torch.cat([vectors for found in own for vectors in found]).float()
        weight = self.book.weight
        weight.copy_(k_means(vectors, len(weight), self.generator, self.config.rounds))

    @torch.no_grad()
    def update(
        self, ids: Sequence[Tensor], candidates: Sequence[Tensor], step: int, steps: int
    ) -> Tensor | None:
        """Count one step; return the mask [codes] of those moved, if it was time to."""
        own = [item - self.book.first for item in self._own(ids)]
        counts = [item.flatten().bincount(minlength=len(self.use)) / item.numel() for item in own]
        self.use.lerp_(torch.stack(counts).mean(0) * len(self.use), 1 - self.config.memory)
        if (step + 1) % self.config.every or step >= self.config.until * steps:
            return None
        dead = self.use < self.config.threshold
        if bool(dead.any()):
            self._move(dead, self._own(candidates))
        return dead

    def _move(self, dead: Tensor, candidates: Sequence[Tensor]) -> None:
        weight = self.book.weight
        count = int(dead.sum())
        share = -(-count // len(candidates))
        drawn = [self._far(vectors, share) for vectors in candidates]
        rows = torch.cat(drawn)
        chosen = torch.randperm(len(rows), generator=self.generator)[:count].to(rows.device)
        weight[dead] = rows[chosen].to(weight.dtype)
        self.use[dead] = 1.0
        for moment in self.optimiser.state.get(weight, {}).values():
            if isinstance(moment, Tensor) and moment.shape == weight.shape:
                moment[dead] = 0.0

    def _far(self, vectors: Tensor, count: int) -> Tensor:
        """`count` of `vectors` [N, D], drawn in proportion to the squared distance from the nearest code."""
        unit = F.normalize(vectors, dim=-1) if self.unit else vectors
        rows = F.normalize(self.book.weight, dim=-1) if self.unit else self.book.weight
        error = (unit - rows[nearest(unit, rows)]).square().sum(-1) + 1e-6
        places = torch.multinomial(error.cpu(), count, replacement=True, generator=self.generator)
        return vectors[places.to(vectors.device)]


def restarts_of(
    tokenizer: Any, config: RestartConfig, optimiser: torch.optim.Optimizer, generator: torch.Generator
) -> list[Restarts]:
    """One for every table of a tokenizer. ValueError without a plain one."""
    return [Restarts(book, config, optimiser, generator) for book in books_of(tokenizer)]


def first_shapes(tokenizer: Any, images: Tensor, drawn: Sequence[Shape], sides: Sequence[int]) -> Any:
    """The maps whose vectors the first codes come from: those `drawn`, or a ladder of `sides`."""
    if not sides:
        return drawn
    grid = (images.shape[2] // tokenizer.stride, images.shape[3] // tokenizer.stride)
    return ladder(grid, sides)
