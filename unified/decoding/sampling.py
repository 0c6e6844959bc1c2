"""From logits to symbols: temperature, top-k and top-p.

The filter is VAR's (top-k keeps ties with the k-th largest; then entries whose ascending cumulative
probability is at most 1 - p go, never the largest); ties with the smallest that stays also stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unified.decoding.noise import Noise
from unified.finite import check_count, check_logits, check_number
from unified.heads.distribution import Drawn

GREEDY_BELOW = 1e-30  # logits divided by less may overflow, and only equal ones are left to choose from
TIES = 64  # values beside the `top_k` largest that are sorted: usually enough for all that tie with the last


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Temperature, top-k and top-p sampling. `temperature` 0 is greedy, and one below `GREEDY_BELOW` becomes
    0; `top_k` 0 and `top_p` 0 or 1 are off. For continuous values the temperature scales the noise, and
    filters are refused. ValueError for values out of range or not finite."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 0.0

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, 0)
        check_count("top_k", self.top_k)
        check_number("top_p", self.top_p, 0, 1)
        if self.temperature < GREEDY_BELOW:
            object.__setattr__(self, "temperature", 0.0)

    def filter(self, logits: Tensor) -> Tensor:
        """Logits [..., V] divided by the temperature, -inf for all that top-k and top-p exclude."""
        if self.temperature not in (0, 1):
            logits = logits / self.temperature
        count, top_k = logits.shape[-1], self.top_k
        nucleus = 0 < self.top_p < 1
        if not nucleus and not 0 < top_k < count:
            return logits
        ascending = _largest(logits, top_k)
        floor = ascending[..., -top_k, None] if 0 < top_k < count else ascending[..., :1]
        if nucleus:
            kept = ascending.masked_fill_(ascending < floor, float("-inf")).softmax(dim=-1)
            drop = kept.cumsum_(dim=-1) <= 1 - self.top_p
            drop[..., -1] = False
            floor = ascending.gather(-1, drop.sum(dim=-1, keepdim=True))
        return logits.masked_fill(logits < floor, float("-inf"))

    def draw(self, logits: Tensor, noise: Noise, places: Tensor) -> Drawn:
        """One symbol for each row of logits [B, n, S, V]: symbols [B, n, S] and log-probabilities [B, n]
        under the filtered distribution. `places` [B, n]: indices of the noise. Logits with NaN or infinity:
        on a CPU ValueError, on other devices, which are not waited for, NaN for the log-probability."""
        if self.temperature == 0:
            likeliest = logits.max(dim=-1)
            if logits.device.type == "cpu":
                check_logits(likeliest.values[..., None])
            return Drawn(likeliest.indices, 0 * likeliest.values.float().sum(dim=-1))
        if logits.device.type == "cpu":
            check_logits(logits)
        probs = self.filter(logits.float()).softmax(dim=-1)
        symbols = noise.draw(probs, places)
        chosen = probs.gather(-1, symbols[..., None]).squeeze(-1)
        return Drawn(symbols, chosen.log().sum(dim=-1))


def kept_share(kept: Tensor, logits: Tensor) -> Tensor:
    """[...]: log of the share of the probability under logits [..., V] that the logits `kept` of some of them
    [..., W] (others may be -inf) have."""
    return kept.float().logsumexp(dim=-1) - logits.float().logsumexp(dim=-1)


def _largest(logits: Tensor, top_k: int) -> Tensor:
    """Values in ascending order: the `top_k` largest (0: all), all that tie with them, perhaps more."""
    count, most = logits.shape[-1], top_k + TIES
    if not top_k or most >= count or logits.device.type != "cpu" or logits.dtype != torch.float32:
        return _sorted(logits)
    ranked = np.partition(logits.detach().numpy(), count - most, axis=-1)[..., count - most :]
    ranked = np.sort(ranked, axis=-1)
    if (ranked[..., 0] >= ranked[..., TIES]).any():  # there may be more ties than these
        return _sorted(logits)
    return torch.from_numpy(ranked)


def _sorted(logits: Tensor) -> Tensor:
    """Values in ascending order. NumPy sorts float32 on a CPU some twenty times as fast as PyTorch."""
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        return torch.from_numpy(np.sort(logits.detach().numpy(), axis=-1))
    return logits.sort(dim=-1).values
