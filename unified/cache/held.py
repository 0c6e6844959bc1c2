"""The interface of cache policies: what one is shown, and what it answers. The policies themselves are
registered in `unified/cache/policy.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from unified.layout.attention import Index
from unified.orders import Plan
from unified.stream.segments import Kind


@dataclass(frozen=True)
class Held:
    """What a policy is shown of one layer (of all layers that share entries, for a policy that does not ask
    by step): `index` [R, K], padding beyond a row's `lengths` [R]. After a step of an image also its `plan`
    and `step`, how many of a row's first entries are not the image's own (`before` [R]), the `keys` held
    [R, K, G, D], and the step's `queries` [R, H, n, D], scaled so that q . k / sqrt(D) are the scores whose
    softmax was the attention."""

    index: Index
    lengths: np.ndarray
    layer: int = 0
    layers: int = 1
    plan: Plan | None = None
    step: int = -1
    before: np.ndarray | None = None
    keys: Tensor | None = None
    queries: Tensor | None = None


class CachePolicy(Protocol):
    """Asked after everything that was read or written. `keeps_writes`: entries of WRITE segments stay when
    their image is done. `by_step`: asked after every step of an image too, layer by layer, with the step's
    queries, whether entries of that image go."""

    keeps_writes: bool
    by_step: bool

    def stays(self, held: Held) -> np.ndarray | None:
        """[R, K] bool or, by head, [R, K, G]: entries that stay; None: all."""
        ...


def without_writes(held: Held) -> np.ndarray | None:
    """[R, K] bool: all but WRITE segments; None if there are none."""
    write = held.index.kind.numpy() == Kind.WRITE
    return ~write if write.any() else None
