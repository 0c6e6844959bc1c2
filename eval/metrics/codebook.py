"""How much of a codebook is in use."""

from __future__ import annotations

import numpy as np


class CodeCount:
    """Counts ids in 0 .. codes - 1, batch by batch."""

    def __init__(self, codes: int) -> None:
        if codes < 1:
            raise ValueError(f"a codebook has at least 1 code, got {codes}")
        self.counts = np.zeros(codes, dtype=np.int64)

    def add(self, ids: np.ndarray) -> None:
        """ids of any shape. ValueError for ids outside the codebook."""
        flat = np.asarray(ids).reshape(-1)
        if flat.size and not 0 <= flat.min() <= flat.max() < len(self.counts):
            raise ValueError(f"ids must lie in 0 to {len(self.counts) - 1}, got {flat.min()} to {flat.max()}")
        self.counts += np.bincount(flat, minlength=len(self.counts))

    @property
    def usage(self) -> float:
        """Share of the codes that occur at all."""
        return float((self.counts > 0).mean())

    @property
    def perplexity(self) -> float:
        """exp of the entropy of the ids' frequencies; 0 without any."""
        total = self.counts.sum()
        if not total:
            return 0.0
        shares = self.counts[self.counts > 0] / total
        return float(np.exp(-(shares * np.log(shares)).sum()))
