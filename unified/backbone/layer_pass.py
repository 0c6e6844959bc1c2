"""A pass: one run of the layers over some positions, and all that a layer is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from unified.backbone.attention import Attend, sdpa
from unified.cache.kv_cache import Append
from unified.layout.attention import EVERYTHING, Index, Seen
from unified.layout.layout import Layout
from unified.orders import Plan


class Depth(Protocol):
    """Which layers a step of an image runs (arXiv 2511.16546 and others). Text, actions and images that are
    read run all."""

    def runs(self, layer: int, layers: int, plan: Plan, step: int) -> bool:
        """Whether this one of so many layers runs at a step of a plan."""
        ...


class LayerPart(Protocol):
    """What is plugged in around layers: adapters, cross-attention to features of an encoder, keys of a source
    image. Members do as much as they need; the others return what they were given."""

    def enter(self, layer: int, hidden: Tensor, run: Pass) -> Tensor:
        """Hidden states [R, n, D] before a layer."""
        ...

    def leave(self, layer: int, hidden: Tensor, run: Pass) -> Tensor:
        """Hidden states [R, n, D] after a layer."""
        ...

    def memory(self, layer: int, run: Pass) -> tuple[Tensor, Tensor] | None:
        """Keys and values [R, G, k, D] that every query of this layer sees besides those of the stream."""
        ...


@dataclass
class Pass:
    """`index` [R, n] and `positions` [3, R, n] of what is run. `append`: where its keys and values go, and
    what is seen of those before; without it the positions see one another as `seen` says. `attend`: the
    back-end. `plan` and `step`: if a step of an image is run (several steps at once: step -1). `condition`:
    what a model is steered by besides its stream. `skipped`: layers that do not run, whatever is run. `runs`:
    by layer, at which positions [R, n] bool it runs; the others pass by it. `queries`: if a dict, the queries
    of every layer [R, H, n, D] are put into it."""

    index: Index
    positions: Tensor
    append: Append | None = None
    seen: Seen = EVERYTHING
    attend: Attend = sdpa
    plan: Plan | None = None
    step: int = -1
    condition: Any = None
    parts: Sequence[LayerPart] = ()
    depth: Depth | None = None
    skipped: frozenset[int] = frozenset()
    runs: dict[int, Tensor] = field(default_factory=dict)
    queries: dict[int, Tensor] | None = None

    def skips(self, layer: int, layers: int) -> bool:
        """Whether nothing of this pass runs a layer."""
        if layer in self.skipped:
            return True
        if self.depth is None or self.plan is None:
            return False
        return not self.depth.runs(layer, layers, self.plan, self.step)

    def attention(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """query [R, H, n, D], key and value [R, G, n, D] of a layer -> [R, n, H, D]."""
        seen = self.seen
        if self.append is not None:
            key, value, seen = self.append.update(layer, key, value)
        elif layer in self.runs:
            seen = _without(seen, self.runs[layer])
        if self.queries is not None:
            self.queries[layer] = query
        for part in self.parts:
            more = part.memory(layer, self)
            if more is not None:
                key, value, seen = _with_memory(key, value, seen, *more)
        return self.attend(query, key, value, seen, scale)


def _with_memory(
    key: Tensor, value: Tensor, seen: Seen, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Seen]:
    """Keys and values with those of a memory before them, which all queries see."""
    mask = seen.mask
    if mask is not None:
        mask = torch.cat([mask.new_ones(*mask.shape[:3], keys.shape[2]), mask], dim=3)
    return torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2), Seen(mask)


def _without(seen: Seen, runs: Tensor) -> Seen:
    """Keys of positions that pass by a layer are not seen in it; those positions see what they will, since
    what comes of them is not used."""
    if seen.mask is None:
        raise ValueError('a depth policy needs a dense mask in training: use the attention "sdpa"')
    return Seen(seen.mask & runs[:, None, None, :] | ~runs[:, None, :, None])


def runs_of(depth: Depth, layout: Layout, layers: int) -> dict[int, Tensor]:
    """For a whole batch: by layer, the positions [B, T] bool that run it. Layers that all run are left
    out."""
    found = {}
    for layer in range(layers):
        runs = torch.ones_like(layout.predicted)
        for group in layout.writes:
            steps = torch.tensor(
                [depth.runs(layer, layers, group.plan, step) for step in range(len(group.plan.steps))]
            )
            runs[group.rows[:, None], group.slots()] = steps[group.plan.labels].to(runs.device)
        if not bool(runs.all()):
            found[layer] = runs
    return found
