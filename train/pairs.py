"""Pairs of replies for preference tuning, as rows of ids: 2i the preferred one, 2i + 1 the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from unified.train.rows import Collator

from unified.stream.vocabulary import Vocabulary

MULTIPLE = 16
Pair = tuple[Sequence[int], Sequence[int]]  # whole samples, prompt included: chosen, rejected


class PairedRows(Dataset):
    """`pairs` in another order in each of `epochs` epochs, which depends on (seed, epoch) alone. A batch of n
    items has 2n rows, so the trainer's batch size counts pairs. Every target weighs the same. ValueError for
    no pairs."""

    paired = True

    def __init__(
        self, pairs: Sequence[Pair], vocabulary: Vocabulary, *, epochs: int = 1, seed: int = 0
    ) -> None:
        if not pairs:
            raise ValueError("preference tuning needs at least one pair")
        self.pairs, self.vocabulary, self.names = pairs, vocabulary, ["pairs"]
        orders = [np.random.default_rng([seed, epoch]).permutation(len(pairs)) for epoch in range(epochs)]
        self.numbers = np.concatenate(orders)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> Pair:
        return self.pairs[self.numbers[number]]

    def collator(self, *, everywhere: bool) -> Callable[[Sequence[Pair]], dict[str, Any]]:
        return PairCollator(Collator(self.vocabulary, everywhere=everywhere, silent=2))


class PairCollator:
    """Pairs -> a batch of twice as many rows, filled up with `<|pad|>` to a multiple of 16 ids: what is
    compiled serves few lengths, and silent rows fit."""

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        samples = [list(sample) for pair in pairs for sample in pair]
        length = -(-max(map(len, samples)) // MULTIPLE) * MULTIPLE
        return self.collator([self._row(sample, length) for sample in samples])

    def _row(self, sample: list[int], length: int) -> dict[str, Tensor]:
        """A row as `Rows` gives it, of one sample."""
        missing = length - len(sample)
        nothing = torch.zeros(length, dtype=torch.bool)
        return {
            "ids": torch.tensor(sample + [self.collator.vocabulary.pad] * missing),
            "tasks": torch.tensor([0] * len(sample) + [-1] * missing),
            "null": nothing,
            "coarse": nothing,
            "factors": torch.ones(length, 3),
        }
