"""Weights that a golden folder does not store but defines by a formula over sorted names, in exact integer
arithmetic.

The rule is written out in `var_tokenizer_full_structure/README.md` of the golden folders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

MASK = np.uint64(2**32 - 1)


def formula_weights(manifest: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Names and shapes -> float32 tensors; the value depends on the position of the name among all sorted
    names."""
    return {name: _tensor(name, j, tuple(manifest[name])) for j, name in enumerate(sorted(manifest))}


def _tensor(name: str, j: int, shape: tuple[int, ...]) -> Tensor:
    uniform = _uniform(math.prod(shape), j).reshape(shape)
    return torch.from_numpy(np.asarray(_scaled(name, uniform), dtype=np.float32).copy())


def _uniform(count: int, j: int) -> np.ndarray:
    """Pseudo-random float64 in [-0.5, 0.5). 2654435761 n fits into 64 bits for n below 2^32."""
    n = np.arange(count, dtype=np.uint64)
    h = (n * np.uint64(2654435761) + np.uint64(j * 40503 + 12345)) & MASK
    h ^= h >> np.uint64(16)
    h = (h * np.uint64(0x45D9F3B)) & MASK
    h ^= h >> np.uint64(16)
    return h.astype(np.float64) / 2**32 - 0.5


def _scaled(name: str, u: np.ndarray) -> np.ndarray:
    if name.endswith(("ema_vocab_hit_SV", "codebook_used")):
        return np.zeros_like(u)
    if name.endswith("embedding.weight"):
        return 4 * u
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.4 * u
    if name.endswith("bias"):
        return 0.2 * u
    fan_in = u[0].size
    return u * 1.2 * math.sqrt(12) / math.sqrt(fan_in)
