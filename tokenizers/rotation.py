"""The rotation trick: a code takes the place of a vector, and its gradient is rotated back with it.

Instead of being copied (straight-through), the gradient is turned by the rotation, and scaled, that maps the
vector to its code: the angle between gradient and vector stays. Fifty et al., arXiv 2410.06424. The value is
the code up to rounding. `tests/tokenizers/test_rotation.py` holds value, angle and length.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-6


def rotated(vectors: Tensor, codes: Tensor) -> Tensor:
    """`codes` [..., D] with the gradient of `vectors` [..., D]; the rotation counts as a constant."""
    with torch.no_grad():
        length = vectors.norm(dim=-1, keepdim=True) + EPS
        size = codes.norm(dim=-1, keepdim=True)
        source, target = vectors / length, codes / (size + EPS)
        middle = source + target
        middle = middle / middle.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        scale = size / length
    along = (vectors * middle).sum(dim=-1, keepdim=True)
    across = (vectors * source).sum(dim=-1, keepdim=True)
    return (vectors - 2 * along * middle + 2 * across * target) * scale
