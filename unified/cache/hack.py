"""HACK: keys and values of an image by the job of a head (arXiv 2504.09261, AAAI 2026).

Contextual heads look at the same few codes from everywhere, structural heads at neighbours. `HeadProfiler`
measures which are which at the last step: the variance of each key's attention over queries, summed over
keys; the heads with least are contextual. Contextual heads keep the codes with most attention from
`observers` queries of the step, structural heads the first maps, the latest map, and then the best of the
rest. Scores are attention over the codes of the image alone, in float32.

Source: the paper's description; its code could not be obtained. Simplified: the heads of one layer hold
equally many codes, the mean of what their classes ask for, since a layer's cache has one length (the total is
the published one, and layers differ as their mixes do); discarded codes of contextual heads are dropped, not
merged; observers lie evenly in place of at random. Tests: tests/unified/cache/test_hack.py.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from unified.cache.held import Held, without_writes
from unified.cache.scalekv import Codes, codes_held, logits

EVERYTHING = 10**9  # codes: a budget that keeps all
LATEST, FIRST = 4.0, 2.0  # raise the shares of protected codes above all others


class HeadProfiler:
    """A cache policy for calibration: DropWrite that notes, at the last step of images, how much each
    key-value head's attention depends on the query."""

    keeps_writes = False
    by_step = True

    def __init__(self) -> None:
        self.found: dict[int, list[Tensor]] = {}  # by layer [R, G]

    def stays(self, held: Held) -> np.ndarray | None:
        if held.plan is None:
            return without_writes(held)
        if held.step == len(held.plan.steps) - 1:
            for codes in codes_held(held):
                self.found.setdefault(held.layer, []).append(dependence(codes.queries, codes.keys))
        return None

    def table(self) -> Tensor:
        """[layers, G]: means over images. ValueError before any was drawn."""
        if not self.found:
            raise ValueError("nothing was measured: draw an image in a session with this policy")
        return torch.stack([torch.cat(self.found[layer]).mean(dim=0) for layer in sorted(self.found)])


def dependence(queries: Tensor, keys: Tensor) -> Tensor:
    """[R, G] float32 of queries [R, H, n, D] and keys [R, G, K, D]: the variance over queries of the
    attention on each key, summed over keys, mean over the heads of a group."""
    attention = logits(queries, keys).softmax(dim=-1).unflatten(2, (-1, queries.shape[2]))
    return attention.var(dim=3, correction=0).sum(dim=-1).mean(dim=2)


def contextual_heads(table: Tensor, share: float) -> frozenset[tuple[int, int]]:
    """(layer, head) of the lowest `share` of a table [layers, G], all layers together. ValueError for a share
    outside [0, 1]."""
    if not 0 <= share <= 1:
        raise ValueError(f"the share of contextual heads must lie in [0, 1], got {share}")
    count = round(share * table.numel())
    lowest = table.flatten().argsort(stable=True)[:count].tolist()
    return frozenset(divmod(place, table.shape[1]) for place in lowest)


@dataclass(frozen=True, kw_only=True)
class HACK:
    """DropWrite, and while an image is written its heads hold no more codes than their class may.
    `heads`: (layer, head) of the contextual ones; `contextual` and `structural`: codes of a head of each
    class, by default all; `observers`: queries that score; `first`: steps whose codes structural heads keep.
    """

    heads: Collection[tuple[int, int]] = field(default_factory=frozenset)
    contextual: int = EVERYTHING
    structural: int = EVERYTHING
    observers: int = 32
    first: int = 2

    keeps_writes = False
    by_step = True

    def __post_init__(self) -> None:
        if min(self.contextual, self.structural, self.observers) < 1 or self.first < 0:
            raise ValueError(
                "budgets and observers must be at least 1, first at least 0, got "
                f"{self.contextual}, {self.structural}, {self.observers} and {self.first}"
            )

    def budget(self, layer: int, groups: int) -> int:
        """Codes that each head of a layer with `groups` key-value heads holds."""
        few = sum((layer, head) in self.heads for head in range(groups))
        return -(-(few * self.contextual + (groups - few) * self.structural) // groups)

    def stays(self, held: Held) -> np.ndarray | None:
        if held.plan is None:
            return without_writes(held)
        assert held.keys is not None
        stays = np.ones(held.keys.shape[:3], dtype=bool)  # [R, K, G]
        budget = self.budget(held.layer, stays.shape[2])
        if held.step + 1 == len(held.plan.steps):  # nothing of this image is looked at again
            return None
        begun = sum(len(step.run) for step in held.plan.steps[: self.first])
        for codes in codes_held(held):
            if codes.keys.shape[2] > budget:
                kept = self._scores(codes, held.layer, begun).topk(budget, dim=-1).indices.cpu()
                marks = torch.zeros(codes.keys.shape[:3], dtype=torch.bool).scatter_(2, kept, True)
                stays[codes.rows[:, None], codes.places] = marks.transpose(1, 2).numpy()
        return None if stays.all() else stays

    def _scores(self, codes: Codes, layer: int, begun: int) -> Tensor:
        """[r, G, K]: mean attention, with that of protected codes of structural heads raised."""
        count = codes.queries.shape[2]
        few = min(self.observers, count)
        asked = (torch.arange(few) * 2 + 1) * count // (2 * few)
        scores = logits(codes.queries[:, :, asked], codes.keys).softmax(dim=-1).mean(dim=2)
        structural = [head for head in range(scores.shape[1]) if (layer, head) not in self.heads]
        scores[:, structural, :begun] += FIRST
        scores[:, structural, -count:] += LATEST
        return scores
