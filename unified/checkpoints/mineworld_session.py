"""A published MineWorld checkpoint in a `Session`: raster or diagonal decoding, by the order.

Diagonal decoding (arXiv 2503.14070) with window w starts a row of codes when the row above has w: a 14 x 24
frame takes 13 w + 24 passes in place of 336. The first code of a row is predicted at a stand-in, the newest
code of the row above, put where the last one will have been (as the published interactive player does). The
published cache attends to places not written yet as zeros: a key of zero has score 0 and value 0, so m of
them are one more key with a bias of log m.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from unified.backbone.attention import Attend, sdpa
from unified.backbone.layer_pass import Pass
from unified.cache.kv_cache import KVCache
from unified.checkpoints.mineworld import MineWorldTransformer
from unified.checkpoints.mineworld_layout import lay_out
from unified.heads.distribution import Distribution
from unified.layout.attention import Seen
from unified.layout.layout import Cursor, Layout
from unified.orders import Plan


class Played:
    """A transformer as a session needs it. `carries` False: what a rollout adds to our own model (carried
    embeddings, contrast, minimum-risk decoding) is not for it."""

    carries = False

    def __init__(self, model: MineWorldTransformer) -> None:
        self.model, self.config, self.head = model, model.config, model.head
        self.attend: Attend = sdpa
        self.vocabulary = model.config.vocabulary()

    @property
    def device(self) -> torch.device:
        return self.model.transformer.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.transformer.lm_head.weight.dtype

    @property
    def layer_count(self) -> int:
        return self.config.sizes.layers

    @property
    def context_length(self) -> int | None:
        """None: how far back is seen is for a cache policy to say (a window of at most 15 of 16 frames)."""
        return None

    def lay_out(
        self, ids: Tensor, cursors: Sequence[Cursor], values: Mapping[str, Tensor] | None = None
    ) -> Layout:
        """Ids [B, T] on the CPU after what the cursors say (`mineworld_layout`)."""
        return lay_out(ids, self.vocabulary, cursors)

    def steer(self, ids: Tensor, values: Mapping[str, Tensor] | None = None) -> None:
        """The stream alone steers this model."""

    def read(self, ids: Tensor, layout: Layout, values: Mapping[str, Tensor] | None = None) -> Tensor | None:
        """Embeddings [B, P, D] of the ids [B, n] that take a position; None if none does."""
        if layout.merging is None:
            return None
        words, kept = self.vocabulary, ids.gather(1, layout.merging.kept)
        codes, actions = kept - words.visual_start, kept - words.action_start + self.config.codes
        rows = torch.where(words.is_visual(kept), codes, actions)
        rows = rows.masked_fill(kept == words.read, self.config.end_marker)
        return self.model.embed(rows.masked_fill(~layout.merging.real, 0))

    def hidden(self, embeds: Tensor, run: Pass) -> list[Tensor]:
        missing = unwritten(run.plan)[run.step] if run.plan is not None and run.step > 0 else None
        if missing is not None:
            run = replace(run, attend=beside_zeros(missing.to(embeds.device)))
        return [self.model.hidden(embeds, run)]

    def null_stream(self, ids: Sequence[int]) -> list[int]:
        raise ValueError("a MineWorld model has no null branch: guidance is not for it")

    def new_cache(self, rows: int = 1, capacity: int = 256, *, static: bool = False) -> KVCache:
        return KVCache(self.config.sizes.layers, rows, capacity, static=static, device=self.device)

    def write(self, plan: Plan, rows: int, condition: object = None) -> FrameWriter:
        """The state of one frame being written. ValueError for another size than the model's, or an order
        that is neither raster nor diagonal."""
        name = plan.order.split("(")[0]
        if plan.shapes != (self.config.grid,) or name not in ("raster", "diagonal") or "axis" in plan.order:
            raise ValueError(
                f"this model writes one map {self.config.grid}, raster or diagonal(window=...), "
                f"got {plan.shapes} in the order {plan.order}"
            )
        return FrameWriter(self.model, plan, rows)

    def text_logits(self, hidden: Tensor) -> Tensor:
        raise ValueError("a MineWorld model predicts frames only: it neither speaks nor acts")


class FrameWriter:
    """The frames being written in `rows` rows."""

    def __init__(self, model: MineWorldTransformer, plan: Plan, rows: int) -> None:
        self.model, self.plan = model, plan
        device = model.transformer.lm_head.weight.device
        self._ids = torch.full((rows, plan.length + 1), model.config.end_marker, device=device)
        self.carried: dict[int, Tensor] = {}

    def set_reference(self, images: Any, actions: Any, contrast: Any = None, words: Any = ()) -> None:
        """What was read is all that these models are told."""

    def inputs(self, step: int) -> Tensor:
        """[R, n, D]: for each slot the code before it or its stand-in, for the first the action's end
        marker."""
        return self.model.embed(self._ids[:, sources(self.plan)[self.plan.steps[step].run]])

    def predict(
        self, step: int, states: Sequence[Tensor], rows: int, before: Sequence[Tensor] | None
    ) -> Distribution:
        return self.model.head.distribution(states[0][:rows])

    def commit(self, step: int, codes: Tensor, vectors: Tensor | None = None) -> None:
        """The codes [B, n] of a step are chosen. ValueError for vectors in their place."""
        if vectors is not None:
            raise ValueError("a MineWorld model is fed codes, not vectors")
        self._ids[:, self.plan.steps[step].decide] = codes

    def fork(self) -> FrameWriter:
        """A copy that goes on by itself."""
        other = copy(self)
        other._ids = self._ids.clone()
        return other


@lru_cache(maxsize=64)
def sources(plan: Plan) -> Tensor:
    """[T]: the slot whose code each slot is fed: the one before it, at the beginning of a row the newest of
    the row above; of the first slot T."""
    height, width = plan.shapes[0]
    found = torch.arange(-1, plan.length - 1)
    found[0] = plan.length
    labels = plan.labels.view(height, width)
    newest = (labels[:-1] < labels[1:, :1]).sum(dim=1) - 1
    found[width::width] = torch.arange(height - 1) * width + newest
    return found


@lru_cache(maxsize=64)
def unwritten(plan: Plan | None) -> tuple[Tensor | None, ...]:
    """For each step, of how many places of the frame up to a slot's own [n] nothing was run yet, its own
    step's included; None if that is 0 for all."""
    assert plan is not None
    found: list[Tensor | None] = []
    for number, step in enumerate(plan.steps):
        missing = (plan.labels > number).long().cumsum(0)[step.run]
        found.append(missing if missing.any() else None)
    return tuple(found)


def beside_zeros(missing: Tensor) -> Attend:
    """SDPA in which query i of n sees `missing` [n] more keys that are zero, as are their values."""

    def attend(query: Tensor, key: Tensor, value: Tensor, seen: Seen, scale: float) -> Tensor:
        bias = query.new_zeros(1, 1, len(missing), key.shape[2])
        if seen.mask is not None:
            bias = torch.where(seen.mask, bias, -torch.inf)
        zeros = missing.to(query).log()[:, None].expand(*bias.shape[:2], -1, -1)
        mask = torch.cat([bias, zeros], dim=3)
        return sdpa(query, pad(key, (0, 0, 0, 1)), pad(value, (0, 0, 0, 1)), Seen(mask), scale)

    return attend
