"""Going back, row by row, to where the rows of a context stood."""

from __future__ import annotations

import numpy as np

from unified.decoding.context import Context


class Mark:
    """Where the rows of a context stand now: how much every layer holds of them, and their cursors. It holds
    as long as no cache policy lets go of anything."""

    def __init__(self, context: Context) -> None:
        self.context, self.cursors = context, list(context.cursors)
        self.lengths = context.cache.lengths_by_layer  # [L, R]

    def restore(self, kept: np.ndarray | int = 0) -> None:
        """Forget all entries since, but the first `kept` [R] of each row. The rows stand where they stood."""
        self.context.cache.truncate(self.lengths + kept)
        self.context.cache.share()
        self.context.cursors = list(self.cursors)
