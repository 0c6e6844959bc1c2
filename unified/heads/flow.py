"""A small flow-matching model for every hidden state: vectors of any distribution, in fewer steps than
diffusion.

The network is that of the diffusion head and predicts a velocity. Sources: Lipman et al., arXiv 2210.02747;
Li et al. (the head), arXiv 2406.11838. Where the whole backbone is the velocity network, see
`unified/checkpoints/xar`. Test: a mixture of Gaussians is learned (tests/unified/heads/test_flow.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from unified.finite import check_values
from unified.heads.denoiser import Denoiser
from unified.heads.distribution import Drawn, check_continuous
from unified.heads.flow_matching import euler, euler_maruyama, euler_times, noised, stochastic_times

if TYPE_CHECKING:
    from unified.decoding.noise import Noise
    from unified.decoding.sampling import Sampler

SCALE = 1000  # the network is told times in thousandths
SOLVERS = ("euler", "euler_maruyama")


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """`inner`, `depth`: width and number of the network's blocks; `steps` of the solver; `repeats`: draws
    of time and noise for each value in the loss."""

    inner: int = 64
    depth: int = 3
    steps: int = 25
    solver: Literal["euler", "euler_maruyama"] = "euler"
    repeats: int = 4

    def __post_init__(self) -> None:
        if min(self.inner, self.depth, self.steps, self.repeats) < 1:
            raise ValueError(
                "a flow head needs inner, depth, steps and repeats of at least 1, got "
                f"{self.inner}, {self.depth}, {self.steps} and {self.repeats}"
            )
        if self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {self.solver!r}")


class FlowHead(nn.Module):
    """`channels` values for hidden states of `width`."""

    def __init__(self, width: int, channels: int, config: FlowConfig | None = None) -> None:
        super().__init__()
        self.channels, self.config = channels, config or FlowConfig()
        self.embedding = nn.Linear(channels, width)
        self.denoiser = Denoiser(width, channels, self.config.inner, self.config.depth, channels)

    def embed(self, codes: Tensor) -> Tensor:
        """Vectors [..., C] -> [..., D]."""
        return self.embedding(codes.to(self.embedding.weight.dtype))

    def distribution(self, hidden: Tensor) -> FlowDistribution:
        return FlowDistribution(self.denoiser, self.config, (Weighted(hidden, 1.0),))

    def loss(self, hidden: Tensor, values: Tensor, generator: torch.Generator) -> Tensor:
        """Squared error of the velocity [...], mean over channels and over `repeats` draws of time
        (uniform) and noise: hidden [..., D], values [..., C]."""
        shape, device = (self.config.repeats, *values.shape[:-1]), generator.device
        times = torch.rand(*shape, 1, generator=generator, device=device).to(values.device)
        noise = torch.randn(*shape, self.channels, generator=generator, device=device).to(values.device)
        values = values.float().expand(shape + values.shape[-1:]).flatten(0, -2)
        hidden = hidden.expand(shape + hidden.shape[-1:]).flatten(0, -2)
        error = self.denoising_loss(hidden, values, times.flatten(), noise.flatten(0, -2))
        return error.view(shape).mean(dim=0)

    def denoising_loss(self, hidden: Tensor, values: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """Squared error of the velocity, a mean over channels: hidden [M, D], values [M, C], times [M] in
        [0, 1], noise [M, C] -> [M]."""
        x = noised(values, noise, times[:, None])
        found = self.denoiser(x, SCALE * times, hidden)
        return (found - (noise - values)).square().mean(dim=-1)


class Weighted(NamedTuple):
    """A hidden state [..., D], and what its velocity counts for."""

    hidden: Tensor
    share: float


@dataclass(frozen=True, eq=False)
class FlowDistribution:
    """The flow along a linear combination of the velocities predicted for one or more hidden states."""

    denoiser: Any  # the network that `velocity` asks; its `inputs` tell the channels
    config: FlowConfig
    terms: tuple[Weighted, ...]

    def log_prob(self, values: Tensor) -> Tensor:
        """ValueError: the squared error of a velocity is no likelihood."""
        raise ValueError(
            f"a flow head has no exact log-probability for values of shape {tuple(values.shape)}: train and "
            "compare with its `loss`"
        )

    def sample(self, noise: Noise, places: Tensor, sampler: Sampler) -> Drawn:
        """Noise of the steps is multiplied by the temperature; the start is of variance 1 in any case. The
        log-probabilities are NaN."""
        check_continuous(sampler)
        stochastic = self.config.solver == "euler_maruyama"
        rows, channels = self.config.steps if stochastic else 1, self.denoiser.inputs.in_features
        normal = noise.normal(places, rows * channels, device=self.terms[0].hidden.device).float()
        start, *noises = normal.unflatten(-1, (rows, channels)).unbind(dim=-2)
        if stochastic:
            noises = [sampler.temperature * x for x in noises]
            values = euler_maruyama(self.velocity, start, noises, stochastic_times(self.config.steps))
        else:
            values = euler(self.velocity, start, euler_times(self.config.steps))
        values = values.float()
        check_values(values)
        return Drawn(values, values.new_full(places.shape, float("nan")))

    def guided(self, null: Self, weight: float) -> Self:
        """Of velocities."""
        own = tuple(Weighted(term.hidden, term.share * (1 + weight)) for term in self.terms)
        away = tuple(Weighted(term.hidden, -weight * term.share) for term in null.terms)
        return replace(self, terms=own + away)

    def combined(self, others: Sequence[Self]) -> Self:
        """Velocities are averaged."""
        every = [term for one in (self, *others) for term in one.terms]
        share = 1 / (1 + len(others))
        return replace(self, terms=tuple(Weighted(term.hidden, term.share * share) for term in every))

    def velocity(self, x: Tensor, time: float) -> Tensor:
        """Of states [..., C], in one pass for all hidden states."""
        flat = x.float().flatten(0, -2)
        hidden = torch.cat([term.hidden.flatten(0, -2) for term in self.terms])
        steps = torch.full((1,), SCALE * time, device=flat.device)
        parts = self.denoiser(flat.repeat(len(self.terms), 1), steps, hidden).chunk(len(self.terms))
        return torch.stack([p * t.share for p, t in zip(parts, self.terms, strict=True)]).sum(0).view(x.shape)
