"""Rows that are full of drawn images of random codes: what a batch costs, without any data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset
from unified.train.rows import Collator

from unified.layout.layout import pack
from unified.orders.shapes import area
from unified.stream.vocabulary import Vocabulary

WORDS = 24  # text ids before an image


class SyntheticRows(Dataset):
    """`count` rows of `length` ids; images have maps of the `sides` and of the vocabulary's largest one.
    ValueError if not even one image fits."""

    paired = False

    def __init__(self, vocabulary: Vocabulary, sides: Sequence[int], length: int, count: int) -> None:
        self.vocabulary, self.length, self.count, self.names = vocabulary, length, count, ["synthetic"]
        self.shapes = [(side, side) for side in (*sides, vocabulary.max_side)]
        if len(self._sample(torch.Generator())) > length:
            raise ValueError(f"an image of maps up to {vocabulary.max_side} fits no row of {length} ids")

    def __len__(self) -> int:
        return self.count

    def _sample(self, rng: torch.Generator) -> list[int]:
        words, shapes = self.vocabulary, self.shapes
        text = torch.randint(words.text, (WORDS,), generator=rng).tolist()
        codes = torch.randint(words.visual, (area(shapes),), generator=rng)
        write = [*words.open_write(words.order_names[0], shapes), *(codes + words.visual_start).tolist()]
        read = words.read_segment(codes[-area(shapes[-1:]) :].tolist(), shapes[-1:])
        return [
            words.begin,
            words.user,
            *text,
            words.end,
            words.assistant,
            *write,
            words.close,
            *read,
            words.end,
        ]

    def __getitem__(self, number: int) -> dict[str, Any]:
        rng = torch.Generator().manual_seed(number)
        one = self._sample(rng)
        samples = [one, *(self._sample(rng) for _ in range(self.length // len(one) - 1))]
        ids = pack(samples, self.length, self.vocabulary)[0]
        nothing = torch.zeros(self.length, dtype=torch.bool)
        targets = len(samples) * (area(self.shapes) + 1)
        return {
            "ids": ids,
            "tasks": torch.where(ids == self.vocabulary.pad, -1, 0),
            "null": nothing,
            "coarse": nothing,
            "factors": torch.full((self.length, 3), 1 / targets),
        }

    def collator(self, *, everywhere: bool) -> Callable[[Sequence[Any]], dict[str, Any]]:
        """Items -> a batch, as in training."""
        return Collator(self.vocabulary, everywhere=everywhere)
