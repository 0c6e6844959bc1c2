"""Solvers of the reverse process of diffusion that take few steps: DDIM and DPM-Solver++ (2M).

Sources: Song et al., Denoising Diffusion Implicit Models, arXiv 2010.02502; Lu et al., DPM-Solver++, arXiv
2211.01095 (second order, multistep, midpoint). Notation: a is the share of a value's variance that is left
at a step, x = sqrt(a) value + sqrt(1 - a) noise. Tests: tests/unified/heads/test_diffusion_solvers.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Predict = Callable[[Tensor, int], Tensor]  # state [..., C] and number of the step -> prediction [..., C]


class SolverStep(NamedTuple):
    """A step's number in the full schedule, which the network is told; `left`: a there, `after`: a at the
    end of the step."""

    number: int
    left: float
    after: float


def leading(kept: Tensor, count: int) -> list[SolverStep]:
    """`count` steps of a schedule with shares `kept` [K], each K // count long, the last at 0."""
    stride = _stride(kept, count)
    return _strided(kept, [index * stride for index in reversed(range(count))], stride)


def trailing(kept: Tensor, count: int) -> list[SolverStep]:
    """The same with the first step at the last number."""
    stride, total = _stride(kept, count), len(kept)
    return _strided(kept, [round(total - index * total / count) - 1 for index in range(count)], stride)


def evenly(kept: Tensor, count: int) -> list[SolverStep]:
    """`count` steps whose numbers are evenly spread from the last one to 0, where they end without noise."""
    _stride(kept, count)
    numbers = [round(index * (len(kept) - 1) / count) for index in range(count, 0, -1)]
    left = [float(kept[number]) for number in numbers]
    return [SolverStep(*found) for found in zip(numbers, left, [*left[1:], 1.0], strict=True)]


def _stride(kept: Tensor, count: int) -> int:
    if not 1 <= count <= len(kept):
        raise ValueError(f"a schedule of {len(kept)} steps has no {count} to keep")
    return len(kept) // count


def _strided(kept: Tensor, numbers: Sequence[int], stride: int) -> list[SolverStep]:
    after = [float(kept[n - stride]) if n >= stride else 1.0 for n in numbers]
    return [SolverStep(n, float(kept[n]), end) for n, end in zip(numbers, after, strict=True)]


def value_and_noise(x: Tensor, velocity: Tensor, left: float) -> tuple[Tensor, Tensor]:
    """Of a predicted velocity sqrt(a) noise - sqrt(1 - a) value (Salimans and Ho, arXiv 2202.00512)."""
    kept, lost = math.sqrt(left), math.sqrt(1 - left)
    return kept * x - lost * velocity, kept * velocity + lost * x


def ddim(
    predict: Predict, start: Tensor, steps: Sequence[SolverStep], *, clip: float = 0.0, velocity: bool = False
) -> Tensor:
    """From noise [..., C] to values, without noise on the way, in float64. The network predicts noise, or
    velocities; `clip`: values are kept within so much of 0 (0: not at all)."""
    x = start.double()
    for step in steps:
        found = predict(x, step.number).double()
        if velocity:
            value, noise = value_and_noise(x, found, step.left)
        else:
            value, noise = _value(x, found, step.left), found
        value = value.clamp(-clip, clip) if clip else value
        x = math.sqrt(step.after) * value + math.sqrt(1 - step.after) * noise
    return x


def dpm_solver(predict: Predict, start: Tensor, steps: Sequence[SolverStep]) -> Tensor:
    """The same by DPM-Solver++ of second order; the first and the last step are of first order. The network
    predicts noise."""
    x, before = start.double(), None
    for index, step in enumerate(steps):
        value = _value(x, predict(x, step.number).double(), step.left)
        change = value
        if before is not None and index + 1 < len(steps):
            ratio = (_half_log_ratio(step.left) - before[1]) / (
                _half_log_ratio(step.after) - _half_log_ratio(step.left)
            )
            change = value + (value - before[0]) / (2 * ratio)
        shrink = math.sqrt((1 - step.after) / (1 - step.left))
        x = shrink * x + (math.sqrt(step.after) - shrink * math.sqrt(step.left)) * change
        before = value, _half_log_ratio(step.left)
    return x


def _value(x: Tensor, noise: Tensor, left: float) -> Tensor:
    return (x - math.sqrt(1 - left) * noise) / math.sqrt(left)


def _half_log_ratio(left: float) -> float:
    """Half the logarithm of the ratio of signal to noise."""
    return 0.5 * math.log(left / (1 - left))


def linear_kept(count: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """[count] float64: the shares a of the linear schedule, whose variances rise evenly (arXiv
    2006.11239)."""
    return (1 - torch.linspace(first, last, count, dtype=torch.float64)).cumprod(0)


def scaled_linear_kept(count: int = 1000, first: float = 0.00085, last: float = 0.012) -> Tensor:
    """[count] float64: the shares a of the schedule whose variances have evenly rising roots (arXiv
    2112.10752)."""
    roots = torch.linspace(first**0.5, last**0.5, count, dtype=torch.float64)
    return (1 - roots.square()).cumprod(0)


def zero_terminal(kept: Tensor) -> Tensor:
    """Shares [K] shifted and scaled so that the last is exactly 0 and the first stays: a step of pure
    noise, which needs predictions of velocity (Lin et al., arXiv 2305.08891)."""
    roots = kept.sqrt()
    return ((roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))).square()
