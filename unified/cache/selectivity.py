"""Attention selectivity: which layers attend to few entries, and which (the "drafters" of ScaleKV) to many.

ASI(layer, step) = mean attention on the map being written, times the mean share that the `top` most attended
earlier codes have in the attention on all earlier codes; means over rows, heads and queries. A session with
the policy `Profiler` measures it, `drafters` ranks layers and steps, `shared_budgets` (scalekv.py) makes
budgets of that. Ten prompts are said to be enough.

Source: arXiv 2505.19602. Its code for this is not released, and how many `top` entries it counts is not
known; it multiplies by their attention itself, not by their share. Tests: tests/unified/cache/
test_selectivity.py.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from unified.cache.held import Held, without_writes
from unified.cache.scalekv import codes_held, logits

CHUNK = 256  # queries whose attention is computed at a time
EPS = 1e-6


def selectivity(queries: Tensor, keys: Tensor, top: int) -> Tensor:
    """[R] of queries [R, H, n, D] of a step and keys [R, G, K, D], of which the last n are the step's.
    ValueError if there are no others."""
    history = keys.shape[2] - queries.shape[2]
    if history < 1:
        raise ValueError(f"selectivity needs keys from before the step, got {keys.shape[2]} keys in all")
    current, share = [], []
    for some in queries.split(CHUNK, dim=2):
        attention = logits(some, keys).softmax(dim=-1).flatten(1, 2)  # [R, H * n, K]
        past = attention[..., :history]
        mass = past.sum(dim=-1)
        current.append(attention[..., history:].sum(dim=-1))
        share.append(past.topk(min(top, history)).values.sum(dim=-1) / mass.clamp(min=EPS))
    return torch.cat(current, dim=1).mean(dim=1) * torch.cat(share, dim=1).mean(dim=1)


class Profiler:
    """A cache policy for calibration: DropWrite that notes the selectivity of every layer at every step that
    finds earlier codes, of all images of its sessions. Both branches of guidance count."""

    keeps_writes = False
    by_step = True

    def __init__(self, top: int = 16) -> None:
        if top < 1:
            raise ValueError(f"top must be at least 1 entry, got {top}")
        self.top = top
        self.found: dict[tuple[int, int], list[float]] = {}  # by layer and step

    def stays(self, held: Held) -> np.ndarray | None:
        if held.plan is None:
            return without_writes(held)
        for codes in codes_held(held):
            if codes.keys.shape[2] > codes.queries.shape[2]:
                measured = selectivity(codes.queries, codes.keys, self.top).tolist()
                self.found.setdefault((held.layer, held.step), []).extend(measured)
        return None

    def table(self) -> Tensor:
        """[layers, steps]: means; NaN where nothing was measured, as at the first step."""
        if not self.found:
            raise ValueError("nothing was measured: draw an image in a session with this policy")
        layers, steps = (max(numbers) + 1 for numbers in zip(*self.found, strict=True))
        table = torch.full((layers, steps), torch.nan)
        for (layer, step), values in self.found.items():
            table[layer, step] = sum(values) / len(values)
        return table


def drafters(table: Tensor, count: int, steps: Collection[int]) -> dict[int, frozenset[int]]:
    """The layers of least selectivity by step: the `count` pairs of layer and step, among `steps`, with the
    lowest Z-scores within their step. `table` [layers, steps]. Leave out steps that find everything held."""
    chosen = sorted(steps)
    columns = table[:, chosen]
    if columns.isnan().any():
        raise ValueError(f"selectivity was not measured in all layers at all steps of {chosen}")
    if not 0 <= count <= columns.numel():
        raise ValueError(f"count must be 0 to {columns.numel()} pairs of layer and step, got {count}")
    mean, deviation = columns.mean(dim=0), columns.std(dim=0, correction=0)
    scores = (columns - mean) / (deviation + EPS)
    lowest = scores.flatten().argsort(stable=True)[:count].tolist()
    pairs = [divmod(pair, len(chosen)) for pair in lowest]
    return {step: frozenset(layer for layer, place in pairs if chosen[place] == step) for step in chosen}
