"""Features without the directions that some words span.

CSD-VAR (arXiv 2507.13984) takes what variants of a content word span out of the features of a style, so that
the style does not carry the content along. Published, the directions are those of pooled features after the
text encoder's projection, and are taken out of its last hidden states, which are of the same width but
another basis. Test: tests/unified/readers/test_subspace.py.
"""

from __future__ import annotations

import torch
from torch import Tensor


def projection(features: Tensor, rank: int, *, least: bool = False) -> Tensor:
    """Features [n, D] of n variants, not centred -> the projection [D, D] onto their first `rank` right
    singular vectors, or with `least` onto the last. Fewer features than `rank` span fewer directions.
    ValueError for a rank below 1."""
    if rank < 1 or features.ndim != 2:
        shape = tuple(features.shape)
        raise ValueError(f"a subspace needs features [n, D] and a rank of at least 1, got {shape} and {rank}")
    _, _, right = torch.linalg.svd(features.double(), full_matrices=False)
    chosen = right[-rank:] if least else right[:rank]
    return (chosen.mT @ chosen).to(features.dtype)


def without(hidden: Tensor, marks: Tensor, subspace: Tensor) -> Tensor:
    """hidden [..., L, D] with the part that lies in a subspace (its projection [D, D]) taken out where
    `marks` [..., L] bool is set."""
    return torch.where(marks[..., None], hidden - hidden @ subspace, hidden)
