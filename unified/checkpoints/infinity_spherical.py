"""Binary spherical quantisation of one map: a vector is brought to length 1, and its bits are the signs (BSQ,
Zhao et al. 2024, arXiv 2406.07548; as Infinity's tokenizer has it, arXiv 2412.04431).

There is no codebook: 2**d codes cost d bits. The entropies that keep bits sure and in even use are sums over
bits too. Source: FoundationVision/Infinity (MIT), infinity/models/bsq_vae. Tests:
tests/unified/checkpoints/test_infinity_tokenizer.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-8


def unit(latent: Tensor) -> Tensor:
    """Latents [B, d, ...] with vectors of length 1."""
    return F.normalize(latent, dim=1, eps=1e-12)


def quantise(latent: Tensor) -> Tensor:
    """Latents [B, d, ...] -> codes of the same form, +-1 / sqrt(d), a 0 being -1. The gradient passes
    straight through to the vectors of length 1."""
    vectors = unit(latent)
    codes = torch.where(latent > 0, 1.0, -1.0).to(vectors) / latent.shape[1] ** 0.5
    return vectors + (codes - vectors).detach()


@dataclass(frozen=True)
class Entropies:
    """In nats, summed over bits: `each`, the mean entropy of a vector's own bits, and `mean`, that of the
    mean use `used` [d, 2] of 0 and 1. Training lowers `each` - `mean`."""

    each: Tensor
    mean: Tensor
    used: Tensor


def entropies(vectors: Tensor, inverse_temperature: float = 100.0) -> Entropies:
    """Of vectors of length 1 [..., d]: bit j is 0 with probability sigmoid(-4 u_j inverse_temperature /
    sqrt(d))."""
    flat = vectors.flatten(0, -2).float()
    zero = torch.sigmoid(-4 * flat * inverse_temperature / flat.shape[-1] ** 0.5)
    both = torch.stack([zero, 1 - zero], dim=-1)  # [N, d, 2]
    used = both.mean(dim=0)
    return Entropies(_entropy(both).mean(dim=0), _entropy(used), used)


def _entropy(shares: Tensor) -> Tensor:
    """[..., d, 2] -> [...]."""
    return -(shares * (shares + EPS).log()).sum(dim=(-2, -1))
