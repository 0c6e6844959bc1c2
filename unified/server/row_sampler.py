"""One sampler for each row of a batch of text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unified.decoding.noise import Noise
from unified.decoding.sampling import Sampler
from unified.heads.distribution import Drawn


class RowSampler:
    """Draws in row b as `samplers[b]` does alone. `tops`: for each row, how many of the likeliest ids to keep
    with the one that was drawn in `scores`; None for rows that are not scored."""

    def __init__(self, samplers: Sequence[Sampler], tops: Sequence[int | None]) -> None:
        self.samplers, self.tops = list(samplers), list(tops)
        self.scores: dict[int, tuple[float, list[tuple[int, float]]]] = {}

    def draw(self, logits: Tensor, noise: Noise, places: Tensor) -> Drawn:
        """Of logits [B, 1, 1, V]: ids [B, 1, 1]. Log-probabilities are in `scores`, here they are 0."""
        probs = torch.empty_like(logits, dtype=torch.float32)
        for sampler in dict.fromkeys(self.samplers):
            rows = [row for row, own in enumerate(self.samplers) if own == sampler]
            probs[rows] = sampler.probabilities(logits[rows])
        symbols = noise.draw(probs, places)
        greedy = torch.tensor([not sampler.temperature for sampler in self.samplers], device=logits.device)
        symbols = torch.where(greedy[:, None, None], logits.max(dim=-1).indices, symbols)
        self._score(logits[:, 0, 0], symbols[:, 0, 0])
        return Drawn(symbols, torch.zeros(places.shape, device=logits.device))

    def _score(self, logits: Tensor, symbols: Tensor) -> None:
        self.scores = {}
        for row, top in enumerate(self.tops):
            if top is not None:
                likely = logits[row].float().log_softmax(dim=-1)
                found = likely.topk(min(top, len(likely)))
                pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
                self.scores[row] = float(likely[symbols[row]]), list(pairs)
