"""The interface of readers."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Reader(Protocol):
    """Turns what an image is given as (codes, latents, features) into READ embeddings: values [N] or [N, C]
    or [images, ...] -> [n, D], one for each placeholder, in the order in which those stand."""

    def __call__(self, values: Tensor) -> Tensor: ...
