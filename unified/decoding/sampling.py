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
from unified.decoding.pieces import PIECE, pieces
from unified.finite import check_count, check_logits, check_number
from unified.heads.distribution import Drawn

GREEDY_BELOW = 1e-30  # logits divided by less may overflow, and only equal ones are left to choose from
TIES = 64  # values beside the `top_k` largest that are sorted: usually enough for all that tie with the last
NUCLEUS = 16  # top-p first sorts one value in so many, the largest, where that saves time: from `MANY` values
MANY = 2**16  # on, `WIDE` or more a row
WIDE = 1024


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
        count, nucleus = logits.shape[-1], 0 < self.top_p < 1
        top_k = self.top_k if self.top_k < count else 0
        if not nucleus and not top_k:
            return logits
        if nucleus and not top_k:
            floor = _nucleus_floor(logits, self.top_p)
        else:
            ascending = _largest(logits, top_k)
            floor = ascending[..., -top_k, None]
            if nucleus:
                floor = _ascending_floor(ascending.masked_fill_(ascending < floor, float("-inf")), self.top_p)
        return logits.masked_fill(logits < floor, float("-inf"))

    def probabilities(self, logits: Tensor) -> Tensor:
        """[..., V]: the softmax of the filtered logits, float32."""
        flat = logits.float().reshape(-1, logits.shape[-1])
        if flat.requires_grad or flat.numel() <= PIECE:
            return self.filter(flat).softmax(dim=-1).view(logits.shape)
        found = torch.empty_like(flat)
        for part in pieces(flat):
            torch.softmax(self.filter(flat[part]), dim=-1, out=found[part])
        return found.view(logits.shape)

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
        probs = self.probabilities(logits)
        symbols = noise.draw(probs, places)
        chosen = probs.gather(-1, symbols[..., None]).squeeze(-1)
        return Drawn(symbols, chosen.log().sum(dim=-1))


def kept_share(kept: Tensor, logits: Tensor) -> Tensor:
    """[...]: log of the share of the probability under logits [..., V] that the logits `kept` of some of them
    [..., W] (others may be -inf) have."""
    return kept.float().logsumexp(dim=-1) - logits.float().logsumexp(dim=-1)


def _nucleus_floor(logits: Tensor, top_p: float) -> Tensor:
    """[..., 1]: the smallest of the values [..., V] that top-p keeps. Where there are many, the largest are
    sorted, and all of a row only where these have too little probability, or where the rounding of two sums
    of V probabilities, each in four lanes or more, may decide. So the result is that of sorting all."""
    count = logits.shape[-1]
    width, rounding = count // NUCLEUS, count / 4 * torch.finfo(torch.float32).eps
    if not _as_array(logits) or logits.numel() < MANY or count < WIDE:
        return _ascending_floor(_sorted(logits), top_p)
    flat = logits.detach().reshape(-1, count)
    ranked = np.partition(flat.numpy(), count - width, axis=-1)[:, count - width :]
    largest = torch.from_numpy(np.sort(ranked, axis=-1)).flip(-1)  # [N, width], in descending order
    total = (flat - largest[:, :1]).exp_().sum(dim=-1, keepdim=True).double()
    share = (largest - largest[:, :1]).exp_().double().cumsum_(dim=-1) / total
    # The first value with which the share reaches top_p, if rounding errors were all down, and all up
    first, last = ((share < top_p + error).sum(-1, keepdim=True) for error in (-rounding, rounding))
    floor, lowest = (largest.gather(-1, found.clamp(max=width - 1)) for found in (first, last))
    proven = (last < width) & (floor == lowest) & (share[:, :1] > 0)  # a NaN is in no comparison
    rest = (~proven[:, 0]).nonzero()[:, 0]
    if len(rest):
        floor[rest] = _ascending_floor(_sorted(flat[rest]), top_p)
    return floor.view(*logits.shape[:-1], 1)


def _ascending_floor(ascending: Tensor, top_p: float) -> Tensor:
    """[..., 1]: the smallest that top-p keeps of values [..., n] in ascending order."""
    drop = ascending.softmax(dim=-1).cumsum_(dim=-1) <= 1 - top_p
    drop[..., -1] = False
    return ascending.gather(-1, drop.sum(dim=-1, keepdim=True))


def _largest(logits: Tensor, top_k: int) -> Tensor:
    """Values in ascending order: the `top_k` largest, all that tie with them, perhaps more."""
    count, most = logits.shape[-1], top_k + TIES
    if most >= count or not _as_array(logits):
        return _sorted(logits)
    ranked = np.partition(logits.detach().numpy(), count - most, axis=-1)[..., count - most :]
    ranked = np.sort(ranked, axis=-1)
    if (ranked[..., 0] >= ranked[..., TIES]).any():  # there may be more ties than these
        return _sorted(logits)
    return torch.from_numpy(ranked)


def _sorted(logits: Tensor) -> Tensor:
    """Values in ascending order. NumPy sorts float32 on a CPU some twenty times as fast as PyTorch."""
    if _as_array(logits):
        return torch.from_numpy(np.sort(logits.detach().numpy(), axis=-1))
    return logits.sort(dim=-1).values


def _as_array(logits: Tensor) -> bool:
    """Whether NumPy sorts them faster."""
    return logits.device.type == "cpu" and logits.dtype == torch.float32
