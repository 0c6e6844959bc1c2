"""How many passes a text or an image took, and what came of drafts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Stats:
    """`passes` of the whole model and `draft_passes` of a draft. Of every row, how many units (tokens of a
    text, steps of an image) were `drafted` [B] and how many of them `accepted` [B] as they were."""

    passes: int
    draft_passes: int
    drafted: np.ndarray
    accepted: np.ndarray

    @staticmethod
    def of(rows: int) -> Stats:
        return Stats(0, 0, np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64))

    @property
    def acceptance(self) -> np.ndarray:
        """[B]: the accepted share of what was drafted; NaN for rows of which nothing was."""
        with np.errstate(invalid="ignore"):
            return self.accepted / self.drafted
