"""A small diffusion model for every hidden state: distributions of vectors, of any form, without a codebook.

Source: Li et al., Autoregressive Image Generation without Vector Quantization (MAR), arXiv 2406.11838;
LTH14/mar (MIT), models/diffloss.py, diffusion/gaussian_diffusion.py. The network predicts a value's noise
and the variance of a step; the loss is the squared error of the one and the variational bound of the other.
Different from the published code: the null branch of guidance draws no noise, which never had an effect.
Test: a mixture of Gaussians is learned (tests/unified/heads/test_diffusion.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from torch import Tensor, nn

from unified.finite import check_values
from unified.heads.denoiser import Denoiser
from unified.heads.diffusion_schedule import DiffusionSchedule, cosine
from unified.heads.distribution import Drawn, check_continuous

if TYPE_CHECKING:
    from unified.decoding.noise import Noise
    from unified.decoding.sampling import Sampler

HALF_BIN = 1 / 255  # the first step's bound is that of 8-bit pixels in -1..1, kept for latents as published


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """`inner`, `depth`: width and number of the network's blocks (MAR: 1024 and 6, 1280 and 8, 1536 and 12).
    `steps` of the full schedule; `sampling`: how many of them each of its equal sections keeps; `repeats`:
    draws of step and noise for each value in the loss. MAR samples in (100,) steps; here the last twentieth
    is left out, in which values are all but noise and an error of the network is multiplied by up to
    20,000."""

    inner: int = 64
    depth: int = 3
    steps: int = 1000
    sampling: tuple[int, ...] = (5,) * 19 + (0,)
    repeats: int = 4

    def __post_init__(self) -> None:
        if min(self.inner, self.depth, self.repeats) < 1 or self.steps < 2:
            raise ValueError(
                "a diffusion head needs inner, depth and repeats of at least 1 and 2 steps, got "
                f"{self.inner}, {self.depth}, {self.repeats} and {self.steps}"
            )
        if not sum(self.sampling) > 0:
            raise ValueError(f"sampling must keep at least one step, got {self.sampling}")
        cosine(self.steps, self.sampling)


class DiffusionHead(nn.Module):
    """`channels` values for hidden states of `width`."""

    def __init__(self, width: int, channels: int, config: DiffusionConfig | None = None) -> None:
        super().__init__()
        self.channels, self.config = channels, config or DiffusionConfig()
        self.embedding = nn.Linear(channels, width)
        self.denoiser = Denoiser(width, channels, self.config.inner, self.config.depth)

    def embed(self, codes: Tensor) -> Tensor:
        """Vectors [..., C] -> [..., D]."""
        return self.embedding(codes.to(self.embedding.weight.dtype))

    def distribution(self, hidden: Tensor) -> DiffusionDistribution:
        schedule = cosine(self.config.steps, self.config.sampling)
        return DiffusionDistribution(self.denoiser, schedule, (Term(hidden, 1.0, 1.0),))

    def loss(self, hidden: Tensor, values: Tensor, generator: torch.Generator) -> Tensor:
        """The mean of `denoising_loss` over `repeats` draws of step and noise."""
        shape, device = (self.config.repeats, *values.shape[:-1]), generator.device
        steps = torch.randint(self.config.steps, shape, generator=generator, device=device)
        noise = torch.randn(*shape, self.channels, generator=generator, device=device)
        hidden = hidden.expand(len(noise), *hidden.shape).flatten(0, -2)
        values = values.expand(len(noise), *values.shape).flatten(0, -2)
        loss = self.denoising_loss(hidden, values, steps.flatten().to(values.device), noise.flatten(0, -2))
        return loss.view(shape).mean(dim=0)

    def denoising_loss(self, hidden: Tensor, values: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
        """Squared error of the noise plus the variational bound in bits, means over channels: hidden [M, D],
        values [M, C], steps [M], noise [M, C] -> [M]."""
        return denoised(self.denoiser, hidden, values, steps, noise, self.config.steps).loss


@dataclass(frozen=True, eq=False)
class Denoised:
    """One step of training for M values: `noisy` [M, C], the network's `outputs` [M, 2C], and by them the
    `value` without noise, and `mean` and `log_variance` of the step before, all [M, C]; the
    `squared_error` of the noise and the variational `bound` in bits, means over channels, [M]. Gradients of
    the bound reach the variance alone."""

    noisy: Tensor
    outputs: Tensor
    value: Tensor
    mean: Tensor
    log_variance: Tensor
    squared_error: Tensor
    bound: Tensor

    @property
    def loss(self) -> Tensor:
        return self.squared_error + self.bound


def denoised(
    denoiser: Denoiser, hidden: Tensor, values: Tensor, steps: Tensor, noise: Tensor, total: int = 1000
) -> Denoised:
    """hidden [M, D], values [M, C], steps [M] of `total` in the cosine schedule, noise [M, C]."""
    values, noise = values.float(), noise.to(values.device, torch.float32)
    table = cosine(total).table.to(values.device, torch.float32)[steps]
    scale, ratio, of_value, of_noisy, smallest, largest = table.split(1, dim=-1)  # each [M, 1]
    noisy = (values + ratio * noise) / scale
    outputs = denoiser(noisy, steps, hidden)
    predicted, place = outputs.chunk(2, dim=-1)
    error = (noise - predicted).square().mean(dim=-1)
    value = scale * noisy - ratio * predicted.detach()
    mean = of_value * value + of_noisy * noisy
    log_variance = smallest + (place + 1) / 2 * (largest - smallest)
    spread = torch.exp(smallest - log_variance) - 1 + log_variance - smallest
    shift = of_value * (values - value)  # true mean less the predicted one
    divergence = 0.5 * (spread + shift.square() * torch.exp(-log_variance))
    bits = torch.where(steps[:, None] == 0, -_binned(values, mean, -0.5 * log_variance), divergence)
    bound = bits.mean(dim=-1) / math.log(2)
    return Denoised(noisy, outputs, value, mean, log_variance, error, bound)


class Term(NamedTuple):
    """A hidden state [..., D], and what its network's noise and variance count for."""

    hidden: Tensor
    noise: float
    variance: float


@dataclass(frozen=True, eq=False)
class DiffusionDistribution:
    """The reverse process under a linear combination of the noises predicted for one or more hidden
    states."""

    denoiser: Denoiser
    schedule: DiffusionSchedule
    terms: tuple[Term, ...]

    def log_prob(self, values: Tensor) -> Tensor:
        """ValueError: what training lowers is no likelihood, and must not be summed with likelihoods."""
        raise ValueError(
            f"a diffusion head has no exact log-probability for values of shape {tuple(values.shape)}: train "
            "and compare with its `loss`"
        )

    def sample(self, noise: Noise, places: Tensor, sampler: Sampler) -> Drawn:
        """Noise of the steps is multiplied by the temperature; the start is of variance 1 in any case. The
        log-probabilities are NaN."""
        check_continuous(sampler)
        device, (steps, channels) = self.terms[0].hidden.device, (len(self.schedule.steps), self._channels())
        normal = noise.normal(places, steps * channels, device=device).float()
        values = self.reverse(normal.unflatten(-1, (steps, channels)), sampler.temperature)
        check_values(values)
        return Drawn(values, values.new_full(places.shape, float("nan")))

    def guided(self, null: Self, weight: float) -> Self:
        """Of predicted noises; the variances stay those of the conditional branch."""
        own = tuple(term._replace(noise=term.noise * (1 + weight)) for term in self.terms)
        away = tuple(term._replace(noise=-weight * term.noise, variance=0.0) for term in null.terms)
        return replace(self, terms=own + away)

    def combined(self, others: Sequence[Self]) -> Self:
        """Predicted noises, which are scores, and log-variances are averaged."""
        every = [term for one in (self, *others) for term in one.terms]
        share = 1 / (1 + len(others))
        terms = tuple(Term(term.hidden, term.noise * share, term.variance * share) for term in every)
        return replace(self, terms=terms)

    def reverse(self, normal: Tensor, temperature: float) -> Tensor:
        """From noise to values [..., C]. normal [..., K, C]: row i is added by step i of K, from the last to
        step 1; row 0 is the start."""
        *_, x = self.trajectory(normal, temperature)
        return x.view(*normal.shape[:-2], x.shape[-1])

    def trajectory(self, normal: Tensor, temperature: float) -> Iterator[Tensor]:
        """The K + 1 states [M, C] of `reverse`, from noise to values."""
        x, *noises = normal.flatten(0, -3).unbind(dim=-2)  # K of [M, C]
        yield x
        table = self.schedule.table.tolist()  # numbers: a step waits for no device
        for index in reversed(range(len(table))):
            scale, ratio, of_value, of_noisy, smallest, largest = table[index]
            predicted, place = self.predicted(x, int(self.schedule.steps[index]))
            x = of_value * (scale * x - ratio * predicted) + of_noisy * x
            if index and temperature:
                log_variance = smallest + (place + 1) / 2 * (largest - smallest)
                x = x + temperature * torch.exp(0.5 * log_variance) * noises[index - 1]
            yield x

    def predicted(self, noisy: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Combined noise and place of the variance, both [M, C], for noisy values [M, C]: one pass for all
        hidden states."""
        hidden = torch.cat([term.hidden.flatten(0, -2) for term in self.terms])
        steps = torch.full((1,), step, device=noisy.device)
        found = self.denoiser(noisy.repeat(len(self.terms), 1), steps, hidden)
        parts = [part.chunk(2, dim=-1) for part in found.chunk(len(self.terms))]
        noise = sum(part[0] * term.noise for part, term in zip(parts, self.terms, strict=True))
        place = sum(part[1] * term.variance for part, term in zip(parts, self.terms, strict=True))
        return noise, place  # type: ignore[return-value]  # there is at least one term

    def _channels(self) -> int:
        return self.denoiser.inputs.in_features


def _binned(values: Tensor, mean: Tensor, log_precision: Tensor) -> Tensor:
    """Log-probability of the bin of a value under a Gaussian; the outermost bins are open."""
    centred, precision = values - mean, torch.exp(log_precision)
    upper = _cumulative(precision * (centred + HALF_BIN))
    lower = _cumulative(precision * (centred - HALF_BIN))
    inside = torch.where(values > 0.999, 1 - lower, upper - lower)
    return torch.where(values < -0.999, upper, inside).clamp(min=1e-12).log()


def _cumulative(x: Tensor) -> Tensor:
    """Of the standard normal distribution, approximately."""
    return 0.5 * (1 + torch.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)))
