"""Flow matching on straight paths: noise, target and solvers. Time 0 is the value, time 1 is noise.

x_t = (1 - t) x + t e,   velocity e - x,   score ((t - 1) v - x_t) / t Sources: Lipman et al., Flow
Matching for Generative Modeling, arXiv 2210.02747; Ma et al., SiT, arXiv 2401.08740 (the stochastic
solver, as xAR uses it, arXiv 2502.20388). States are kept in float64, so that many small steps add up.
Tests: tests/unified/heads/test_flow.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]  # state [..., C] and time -> velocity [..., C]
LAST = 0.04  # time of the last step of the stochastic solver, which goes to 0 without noise


def noised(values: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Values on their way to noise, all of one shape or broadcast."""
    return (1 - times) * values + times * noise


def euler_times(steps: int) -> list[float]:
    """Times at which `steps` Euler steps evaluate the velocity, from 1 down."""
    found: list[float] = torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1].tolist()
    return found


def stochastic_times(steps: int) -> list[float]:
    """The same for Euler-Maruyama: evenly from 1 to `LAST`."""
    found: list[float] = torch.linspace(1, LAST, steps, dtype=torch.float64).tolist()
    return found


def euler(velocity: Velocity, start: Tensor, times: Sequence[float]) -> Tensor:
    """The ordinary differential equation from noise [..., C] at time 1 to values, float64."""
    x = start.double()
    for time, following in zip(times, [*times[1:], 0.0], strict=True):
        x = x + (following - time) * velocity(x, time).double()
    return x


def euler_maruyama(
    velocity: Velocity, start: Tensor, noises: Sequence[Tensor], times: Sequence[float]
) -> Tensor:
    """The stochastic differential equation with diffusion coefficient 2 t, from noise [..., C] to values,
    float64. `noises`: one [..., C] for every step but the last. ValueError for another number of them."""
    if len(noises) != len(times) - 1:
        raise ValueError(f"{len(times)} stochastic steps need {len(times) - 1} noises, got {len(noises)}")
    x = start.double()
    for number, time in enumerate(times):
        last = number + 1 == len(times)
        change = (0.0 if last else times[number + 1]) - time
        found = velocity(x, time).double()
        score = ((time - 1) * found - x) / time
        drift = found - time * score
        x = x + drift * change
        if not last:
            x = x + (2 * time * -change) ** 0.5 * noises[number].double()
    return x
