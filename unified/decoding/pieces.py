"""Work on many distributions a few at a time, so that what is computed in between stays in a processor's
cache: an array of 64 MB is fetched from memory anew, and given pages anew, by every operation on it."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

PIECE = 2**18  # values, 1 MB of float32


def pieces(values: Tensor) -> Iterator[slice]:
    """Slices of the rows of `values` [N, V] in order, of some `PIECE` values each; on other devices than a
    CPU one slice of all."""
    count, width = values.shape
    most = max(1, PIECE // max(1, width)) if values.device.type == "cpu" else max(1, count)
    for start in range(0, count, most):
        yield slice(start, min(start + most, count))
