"""What a head predicts: a distribution with log-probabilities, samples from given noise, and combinations.

Distributions are over the last axis: the symbols of a code, or the channels of a vector. Guidance and several
read-outs of one slot combine distributions of one kind; decoding need not know which head they come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from unified.finite import check_values

if TYPE_CHECKING:  # decoding runs on heads, not the other way round
    from unified.decoding.noise import Noise
    from unified.decoding.sampling import Sampler


class Drawn(NamedTuple):
    """`values` [B, n, S] (symbols) or [B, n, C] (vectors), and the log-probability [B, n] with which they
    were drawn: after temperature and filters, 0 where nothing is random, NaN where it is not known."""

    values: Tensor
    log_probs: Tensor

    @property
    def symbols(self) -> Tensor:
        """The values, where they are those of codes."""
        return self.values


class Distribution(Protocol):
    """One for every hidden state [...]. All methods but `sample` take any leading shape."""

    def log_prob(self, values: Tensor) -> Tensor: ...  # [..., S] or [..., C] -> [...], float32

    def sample(self, noise: Noise, places: Tensor, sampler: Sampler) -> Drawn:
        """Draw for hidden states [B, n]; `places` [B, n] index the noise."""
        ...

    def guided(self, null: Self, weight: float) -> Self:
        """Classifier-free guidance: null + (1 + weight) * (self - null); 0 is self alone."""
        ...

    def combined(self, others: Sequence[Self]) -> Self:
        """Of several read-outs of the same slots: the normalised geometric mean of their distributions."""
        ...


@dataclass(frozen=True, eq=False)
class Categorical:
    """`logits` [..., S, V] of S symbols that are independent given the hidden state: one softmax (S = 1), or
    one per bit."""

    logits: Tensor

    def log_prob(self, values: Tensor) -> Tensor:
        return log_prob(self.logits, values)

    def sample(self, noise: Noise, places: Tensor, sampler: Sampler) -> Drawn:
        return sampler.draw(self.logits, noise, places)

    def guided(self, null: Self, weight: float) -> Self:
        return type(self)(torch.lerp(null.logits, self.logits, 1 + weight))

    def combined(self, others: Sequence[Self]) -> Self:
        """Logits are averaged."""
        return type(self)(torch.stack([self.logits, *(other.logits for other in others)]).mean(dim=0))


@dataclass(frozen=True, eq=False)
class Gaussian:
    """`mean` and `log_std` [..., C] of channels that are independent given the hidden state."""

    mean: Tensor
    log_std: Tensor

    def log_prob(self, values: Tensor) -> Tensor:
        mean, log_std = self.mean.float(), self.log_std.float()
        scaled = (values.float() - mean) * torch.exp(-log_std)
        return (-0.5 * scaled**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(dim=-1)

    def sample(self, noise: Noise, places: Tensor, sampler: Sampler) -> Drawn:
        """Standard deviations are multiplied by the temperature."""
        check_continuous(sampler)
        check_values(torch.stack([self.mean, self.log_std]))
        if sampler.temperature == 0:
            return Drawn(self.mean, torch.zeros(places.shape, device=self.mean.device))
        normal = noise.normal(places, self.mean.shape[-1], device=self.mean.device).to(self.mean)
        tempered = type(self)(self.mean, self.log_std + math.log(sampler.temperature))
        values = self.mean + normal * tempered.log_std.exp()
        return Drawn(values, tempered.log_prob(values))

    def guided(self, null: Self, weight: float) -> Self:
        """Of means; the variance stays that of the conditional branch."""
        return type(self)(torch.lerp(null.mean, self.mean, 1 + weight), self.log_std)

    def combined(self, others: Sequence[Self]) -> Self:
        """Precisions are averaged, and means in proportion to them."""
        means = torch.stack([self.mean, *(other.mean for other in others)])
        precisions = torch.exp(-2 * torch.stack([self.log_std, *(other.log_std for other in others)]))
        weights = precisions / precisions.sum(dim=0)
        return type(self)((weights * means).sum(dim=0), -0.5 * precisions.mean(dim=0).log())


def first_rows(predicted: Distribution, start: int, stop: int) -> Distribution:
    """Of hidden states [B, ...], those of rows `start` to `stop`."""
    return _mapped(predicted, lambda x: x[start:stop])


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A dataclass or a tuple with all tensors in it changed; modules and settings stay."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        parts = [_mapped(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if is_dataclass(value) and not isinstance(value, type) and hasattr(value, "__dict__"):
        changed = {field.name: _mapped(getattr(value, field.name), change) for field in fields(value)}
        return replace(value, **changed)
    return value


def joined(parts: Sequence[Distribution], order: Tensor) -> Distribution:
    """One distribution for hidden states [B, n] from those of [B, n_i], put in `order` [n] along them. What
    is no tensor is that of the first part."""
    if len(parts) == 1:
        return parts[0]
    found = {}
    for field in fields(parts[0]):  # type: ignore[arg-type]
        given = [getattr(part, field.name) for part in parts]
        tensors = all(isinstance(value, Tensor) for value in given)
        found[field.name] = torch.cat(given, dim=1)[:, order.to(given[0].device)] if tensors else given[0]
    return type(parts[0])(**found)


def log_prob(logits: Tensor, symbols: Tensor) -> Tensor:
    """Log-probability of codes in float32: logits [..., S, V], symbols [..., S] -> [...]."""
    logits = logits.float()
    chosen = logits.gather(-1, symbols[..., None]).squeeze(-1)
    return (chosen - torch.logsumexp(logits, dim=-1)).sum(dim=-1)


def check_continuous(sampler: Sampler) -> None:
    """ValueError for filters, which are defined for codes only."""
    if sampler.top_k or 0 < sampler.top_p < 1:
        raise ValueError(
            f"top_k {sampler.top_k} and top_p {sampler.top_p} choose among codes: a continuous head takes a "
            "temperature only (top_k 0, top_p 0)"
        )
