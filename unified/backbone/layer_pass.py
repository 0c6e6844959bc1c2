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
    """Which layers of the backbone a step of an image runs (arXiv 2511.16546 and others). Text, actions and
    images that are read run all; so do the blocks behind the backbone that further heads read."""

    def runs(self, layer: int, layers: int, plan: Plan, step: int) -> bool:
        """Whether this one of the backbone's `layers` runs at a step of a plan, on the slots that the step
        runs."""
        ...


@dataclass(frozen=True)
class Memory:
    """`keys` and `values` [R, G, k, D] that the queries of a layer see besides those of the stream; `mask`
    [R, k] bool, or [R, n, k] query by query: which of them the queries of a row see (None: all)."""

    keys: Tensor
    values: Tensor
    mask: Tensor | None = None


class LayerPart(Protocol):
    """What is plugged in around layers: adapters, cross-attention to features of an encoder, keys of a source
    image. Members (`backbone.parts`) do as much as they need; by default everything stays as it is.
    `adds_keys`: whether `memory` may give any, which takes an attention with dense masks in training.
    `by_step`: whether it must be told the step of an image, so that no pass may run several."""

    adds_keys: bool = False
    by_step: bool = False

    def enter(self, layer: int, hidden: Tensor, run: Pass) -> Tensor:
        """Hidden states [R, n, D] before a layer."""
        return hidden

    def leave(self, layer: int, hidden: Tensor, run: Pass) -> Tensor:
        """Hidden states [R, n, D] after a layer."""
        return hidden

    def memory(self, layer: int, run: Pass) -> Memory | None:
        """Keys and values that take part in the softmax of a layer's attention."""
        return None

    def attended(self, layer: int, query: Tensor, found: Tensor, run: Pass) -> Tensor:
        """What a layer's attention found [R, n, H, D] for its queries [R, H, n, D], before the output
        projection."""
        return found


@dataclass
class Pass:
    """`index` [R, n] and `positions` [3, R, n] of what is run. `append`: where its keys and values go, and
    what is seen of those before; without it the positions see one another as `seen` says. `attend`: the
    back-end. `plan` and `step`: if a step of an image is run (several steps at once: step -1); `slots`: those
    of the step that its positions stand at, where one stands for several (None: all that it runs).
    `condition`: what a model is steered by besides its stream. `skipped`: layers that do not run, whatever is
    run. `runs`: by layer, at which positions [R, n] bool it runs; the others pass by it. `queries`: if a
    dict, the queries of every layer [R, H, n, D] are put into it, scaled so that q . k / sqrt(D) are the
    scores whose softmax is the attention, whatever scale a layer uses. `layout`: of a whole batch in
    training."""

    index: Index
    positions: Tensor
    append: Append | None = None
    seen: Seen = EVERYTHING
    attend: Attend = sdpa
    plan: Plan | None = None
    step: int = -1
    slots: Tensor | None = None
    condition: Any = None
    parts: Sequence[LayerPart] = ()
    depth: Depth | None = None
    skipped: frozenset[int] = frozenset()
    runs: dict[int, Tensor] = field(default_factory=dict)
    queries: dict[int, Tensor] | None = None
    layout: Layout | None = None

    @property
    def rows(self) -> slice:
        """Which rows are run: all of a batch, or some of a session, whose null rows come after the others."""
        return slice(None) if self.append is None else self.append.rows

    def skips(self, layer: int, layers: int) -> bool:
        """Whether nothing of this pass runs a layer, the backbone having `layers`."""
        if layer in self.skipped:
            return True
        if self.depth is None or self.plan is None or layer >= layers:
            return False
        return not self.depth.runs(layer, layers, self.plan, self.step)

    def attention(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """query [R, H, n, D], key and value [R, G, n, D] of a layer -> [R, n, H, D]."""
        if self.append is not None:
            key, value, seen = self.append.update(layer, key, value)
        else:
            seen = self.seen_in(layer)
        if self.queries is not None:
            self.queries[layer] = query * (scale * query.shape[-1] ** 0.5)
        for part in self.parts:
            memory = part.memory(layer, self)
            if memory is not None:
                key, value, seen = _with_memory(key, value, seen, memory)
        found = self.attend(query, key, value, seen, scale)
        for part in self.parts:
            found = part.attended(layer, query, found, self)
        return found

    def seen_in(self, layer: int) -> Seen:
        """What is seen in a layer of a pass without a cache."""
        return _without(self.seen, self.runs[layer]) if layer in self.runs else self.seen


def _with_memory(key: Tensor, value: Tensor, seen: Seen, memory: Memory) -> tuple[Tensor, Tensor, Seen]:
    """Keys and values with those of a memory before them."""
    count, mask, lengths = memory.keys.shape[2], seen.mask, seen.lengths
    if mask is not None or memory.mask is not None:
        ours = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=key.device) if mask is None else mask
        theirs = ours.new_ones(1, 1, 1, 1) if memory.mask is None else _by_query(memory.mask)
        shape = (len(key), 1, max(ours.shape[2], theirs.shape[2]))
        mask = torch.cat([theirs.expand(*shape, count), ours.expand(*shape, key.shape[2])], dim=3)
    lengths = lengths + count if lengths is not None and memory.mask is None else None
    pairs = (memory.keys, key), (memory.values, value)
    keys, values = (torch.cat([theirs.to(mine.dtype), mine], dim=2) for theirs, mine in pairs)
    return keys, values, Seen(mask, lengths)


def _by_query(mask: Tensor) -> Tensor:
    """[R, k] or [R, n, k] -> [R, 1, 1 or n, k]."""
    return mask[:, None, None] if mask.ndim == 2 else mask[:, None]


def _without(seen: Seen, runs: Tensor) -> Seen:
    """Keys of positions that pass by a layer are not seen in it; those positions see what they will, since
    what comes of them is not used."""
    if seen.mask is None:
        raise ValueError('a depth policy needs a dense mask in training: use the attention "sdpa"')
    return Seen(seen.mask & runs[:, None, None, :] | ~runs[:, None, :, None])


def layers_run(depth: Depth, plan: Plan, layers: int) -> Tensor:
    """[layers, steps] bool: whether each of the backbone's layers runs at each step of a plan."""
    steps = range(len(plan.steps))
    return torch.tensor(
        [[depth.runs(layer, layers, plan, step) for step in steps] for layer in range(layers)]
    )


def slots_run(depth: Depth, plan: Plan, layers: int) -> Tensor:
    """[layers, T] bool: the slots of an image that run each of the backbone's layers in one pass over all: as
    at the step that runs them, which is `lag` later than the one that decides them."""
    steps = (plan.labels + plan.feed.lag).clamp(max=len(plan.steps) - 1)
    return layers_run(depth, plan, layers)[:, steps]


def runs_of(depth: Depth, layout: Layout, layers: int) -> dict[int, Tensor]:
    """For a whole batch: by layer of the backbone, the positions [B, T] bool that run it. Layers that all run
    are left out."""
    runs = layout.predicted.new_ones(layers, *layout.predicted.shape)
    for group in layout.writes:
        inside = slots_run(depth, group.plan, layers).to(runs.device)
        runs[:, group.rows[:, None], group.slots()] = inside[:, None]
    partly = ~runs.flatten(1).all(dim=1)
    return {layer: runs[layer] for layer in partly.nonzero()[:, 0].tolist()}
