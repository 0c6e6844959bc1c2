"""A layer that changes gradients alone: what a secondary loss may do to a module that it shares with
another one.

Source: Harmon, arXiv 2503.21979, and UniPic, arXiv 2508.03320, scale what text losses send back into the
image encoder by 0.1. Test: tests/unified/backbone/test_gradient_scale.py.
"""

from __future__ import annotations

from torch import Tensor


def scaled_gradient(x: Tensor, scale: float) -> Tensor:
    """x, bit by bit, through which gradients are multiplied by `scale`."""
    return x.detach() + scale * (x - x.detach())
