"""Speculative sampling of continuous values: the rejection rule for Gaussians.

A value x drafted from q is accepted with probability min(1, p(x) / q(x)); otherwise one is drawn from the
residual norm(max(0, p - q)), which has no closed form, by rejection: z from p is kept with probability max(0,
1 - q(z) / p(z)). Either way the value follows p. Of a diffusion head p and q are the Gaussians of its last
denoising step, given the same noise in all steps (trajectory alignment), an approximation where the
trajectories differ. Wang et al., "Continuous speculative decoding for autoregressive image generation", arXiv
2411.11925, whose release divides residuals by a temperature of 42, so that nearly all is accepted: a
`temperature` above 1 is biased towards the draft. Ratios are taken in log space, in float64. Tests:
tests/unified/decoding/test_gaussian.py; `unified/checkpoints/cspd` computes what the release does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unified.decoding.noise import Noise
from unified.decoding.strategies.rejection import ACCEPT, RESAMPLE
from unified.finite import check_count, check_number
from unified.heads.distribution import Gaussian

TRIALS = 100  # proposals for a residual, of which about 1 / (1 - overlap of p and q) are needed


@dataclass(frozen=True)
class ValueVerdict:
    """`values` [B, n, C]; which of them are those drafted (`accepted` [B, n] bool), and which were drawn from
    p alone, because no proposal was kept (`capped` [B, n] bool)."""

    values: Tensor
    accepted: Tensor
    capped: Tensor


def log_ratio(x: Tensor, p: Gaussian, q: Gaussian, temperature: float = 1.0) -> Tensor:
    """[...]: log of p(x) / q(x) of values [..., C], residuals divided by the temperature; float64."""
    above, below = (_log_density(x, law, temperature) for law in (p, q))
    return above - below


def _log_density(x: Tensor, law: Gaussian, temperature: float) -> Tensor:
    """[...], but for a constant; float64."""
    log_std = law.log_std.double()
    scaled = (x.double() - law.mean.double()) * torch.exp(-log_std) / temperature
    return (-0.5 * scaled.square() - log_std).sum(dim=-1)


def verify_values(
    p: Gaussian,
    q: Gaussian,
    drafted: Tensor,
    noise: Noise,
    places: Tensor,
    *,
    temperature: float = 1.0,
    trials: int = TRIALS,
) -> ValueVerdict:
    """Of values `drafted` [B, n, C] from q; `places` [B, n] index the noise. A residual for which none of so
    many proposals is kept is replaced by a value from p. ValueError for a temperature below 1 or no trial."""
    check_number("the temperature of acceptance", temperature, 1)
    check_count("trials", trials, 1)
    uniform = noise.uniform(places, 1, ACCEPT, drafted.device)[..., 0].double()
    accepted = uniform.log() < log_ratio(drafted, p, q, temperature)
    found, waiting = drafted.clone(), ~accepted
    proposal = drafted
    for trial in range(trials):
        if not waiting.any():
            break
        normal = noise.normal(places, drafted.shape[-1], f"{RESAMPLE}{trial}", drafted.device)
        proposal = p.mean + p.log_std.exp() * normal.to(p.mean)
        chance = -torch.expm1(-log_ratio(proposal, p, q))  # 1 - q / p
        uniform = noise.uniform(places, 1, f"{ACCEPT}{trial}", drafted.device)[..., 0].double()
        kept = waiting & (uniform < chance)
        found = torch.where(kept[..., None], proposal, found)
        waiting = waiting & ~kept
    found = torch.where(waiting[..., None], proposal, found)  # the latest proposal is a value from p
    return ValueVerdict(found, accepted, waiting)
