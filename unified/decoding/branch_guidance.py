"""Guidance by several branches, each told less than the one before it.

last + sum over k of scale_k (branch_k - branch_(k+1)) With two branches this is classifier-free
guidance; with three (everything, the image alone, nothing) text and image have scales of their own
(Brooks et al., InstructPix2Pix, arXiv 2211.09800; Orthus, arXiv 2412.00127). It acts on whatever the
branches predict: noise, velocities, logits. Test: tests/unified/decoding/test_branch_guidance.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def branch_guided(branches: Tensor, scales: Sequence[float]) -> Tensor:
    """Predictions [G, ...] of G branches and G - 1 scales -> [...]. ValueError for another number of
    scales."""
    if len(scales) != len(branches) - 1:
        raise ValueError(f"{len(branches)} branches need {len(branches) - 1} scales, got {len(scales)}")
    found = branches[-1]
    for number, scale in enumerate(scales):
        found = found + scale * (branches[number] - branches[number + 1])
    return found
