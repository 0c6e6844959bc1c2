"""VARGPT-v1.1 as a `Session` needs it: text, pictures to look at, and drawings, in any number of rows.

All that lasts lies in the session's KV cache: keys and values of the language model, its states of what was
said (two halves of a state in place of a key and a value), which the decoder's cross-attention reads, and
keys and values of the decoder. A step of a drawing is one pass through both transformers. In the null branch
the language model sees the step's map alone, and the decoder's memory is the learnt one of no text, as long
as the prompt's or, if that is shorter, whole. What memory becomes in the decoder's layers is computed at
every step anew: a hundredth of the work of a drawing of 512 x 512 pixels with a prompt of 50 ids.

Source: VARGPT-family/VARGPT-v1.1 (Apache-2.0). Different from the published code: text goes on after a
drawing, rows draw together. Tests: tests/unified/checkpoints/test_vargpt_session.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.backbone.decoder import run_layers
from unified.backbone.layer_pass import Pass
from unified.cache.kv_cache import KVCache
from unified.checkpoints.infinity_layers import TextCondition
from unified.checkpoints.next_scale import MapWriter
from unified.checkpoints.vargpt import VARGPT
from unified.checkpoints.vargpt_layout import (
    NULL,
    NULL_SAMPLE,
    DrawingVocabulary,
    lay_out_drawing,
    nothing,
    spoken,
)
from unified.heads.distribution import Categorical
from unified.layout.attention import PADDING, Index
from unified.layout.layout import Cursor, Layout
from unified.orders import Plan
from unified.orders.shapes import Shapes, area
from unified.stream.base_words import BaseWords
from unified.stream.segments import Kind
from unified.tokenizers.feeds import MapFeed
from unified.vision_language.model import PretrainedReader


@dataclass(frozen=True, eq=False)
class Branch:
    """What is drawn for each row: `null` [R] bool marks rows of the null branch."""

    null: Tensor

    def stack(self, below: Branch) -> Branch:
        return Branch(torch.cat([self.null, below.null]))


@dataclass(frozen=True, eq=False)
class Begun:
    """`start` [R, 1, W]: the decoder's first input in each row."""

    start: Tensor


@dataclass
class PassBehind(Pass):
    """A pass of layers before which the cache holds `after` others."""

    after: int = 0

    def attention(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        return super().attention(self.after + layer, query, key, value, scale)


@dataclass(frozen=True)
class Slots:
    """Where the `count` slots of a step stand in a pass [R, n]: after each row's first `before` [R]
    positions. `active` [R] bool: rows that draw."""

    before: np.ndarray
    count: int
    active: np.ndarray

    @staticmethod
    def of(run: Pass, count: int) -> Slots:
        sample, kind = run.index.sample.numpy(), run.index.kind.numpy()
        counts = (sample != PADDING).sum(axis=1)
        last = (counts - 1).clip(min=0)[:, None]
        drawn = np.take_along_axis(kind, last, axis=1)[:, 0] == Kind.WRITE
        active = (counts > 0) & drawn
        return Slots(np.where(active, counts - count, 0), count, active)

    def places(self, like: Tensor) -> Tensor:
        """[R, count], on the device of `like`."""
        places = self.before[:, None] + np.arange(self.count)
        return torch.from_numpy(places).to(like.device)

    def take(self, states: Tensor) -> Tensor:
        """[R, n, D] -> [R, count, D]."""
        if self.count == states.shape[1]:
            return states
        return states.gather(1, self.places(states)[..., None].expand(-1, -1, states.shape[-1]))

    def put(self, states: Tensor, width: int) -> Tensor:
        """The inverse: [R, count, D] -> [R, width, D], 0 elsewhere."""
        if self.count == width:
            return states
        places = self.places(states)[..., None].expand(-1, -1, states.shape[-1])
        return states.new_zeros(len(states), width, states.shape[-1]).scatter(1, places, states)

    def put_queries(self, queries: Tensor, width: int) -> Tensor:
        """The same of queries [R, H, count, C] -> [R, H, width, C]."""
        flat = self.put(queries.transpose(1, 2).flatten(2), width)
        return flat.unflatten(2, (queries.shape[1], -1)).transpose(1, 2)


class DrawingReader(PretrainedReader):
    """VARGPT in a session. `ends`: the ids that end an answer."""

    order = "residual"
    head: Any

    def __init__(self, model: VARGPT, ends: Sequence[int]) -> None:
        super().__init__(model.language, ends)
        self.vargpt, self.visual = model, model.decoder
        self.head = model.decoder.head
        named = {"write": model.sizes.ids.start, **({"end": ends[0]} if ends else {})}
        longest = max(vars(model.sizes.ids).values())
        self.words: DrawingVocabulary = DrawingVocabulary(
            text=max(self.vocabulary.text, longest + 1),
            base=BaseWords(image=self.image),
            named=named,
            visual=2**model.decoder.grid.token_bits,
            max_side=model.decoder.vocabulary.max_side,
        )
        self.vocabulary = self.words
        self.null_id = self.words.special[NULL]
        self.history = len(self.layers)  # number of the cache's layer of states
        self.behind = self.history + 1  # of the decoder's first layer

    def new_cache(self, rows: int = 1, capacity: int = 256, *, static: bool = False) -> KVCache:
        groups = [len(self.layers), 1, len(self.visual)]
        return KVCache(groups, rows, capacity, static=static, device=self.device)

    # Reading ------------------------------------------------------------------------------------------------

    def lay_out(
        self, ids: Tensor, cursors: Sequence[Cursor], values: Mapping[str, Tensor] | None = None
    ) -> Layout:
        """Ids [B, T] on the CPU after what the cursors say; those of drawings that are read take no
        position."""
        if bool((ids == self.words.write).any()):
            return lay_out_drawing(ids, cursors, self.words)
        told = (ids == self.null_id).any(dim=1)
        kept = spoken(ids, self.words)
        if bool(told.any()) or not kept.shape[1]:
            return nothing(ids, cursors, told)
        if any(cursor.sample >= NULL_SAMPLE for cursor in cursors):
            return nothing(ids, cursors, told)
        return super().lay_out(kept, cursors, values)

    def steer(self, ids: Tensor, values: Mapping[str, Tensor] | None = None) -> Branch:  # type: ignore[override]
        """All rows of a branch are conditional ones or all null rows."""
        return Branch(torch.full((len(ids),), bool((ids == self.null_id).any())))

    def read(self, ids: Tensor, layout: Layout, values: Mapping[str, Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Embeddings [B, P, D]; None where no id has a position."""
        if bool((layout.index.sample == PADDING).all()) and not bool((ids == self.words.write).any()):
            return None
        return super().read(spoken(ids, self.words), layout, values)

    def null_stream(self, ids: Sequence[int]) -> list[int]:
        """All that the null branch is told is that it is one."""
        return [self.null_id]

    def hidden(self, embeds: Tensor, run: Pass) -> list[Tensor]:
        """Embeddings [R, n, D] -> states of the language model [R, n, D], and of the decoder [R, n, W] at the
        slots of a drawing, 0 elsewhere."""
        states = super().hidden(embeds.to(self.dtype), run)[0]
        if run.append is None:
            return [states]
        self._remember(states, run)
        none = states.new_zeros(1, 1, 1).float().expand(*states.shape[:2], self.visual.config.width)
        if run.plan is None or not bool((run.index.kind == Kind.WRITE).any()):
            return [states, none]
        if run.step < 0:
            raise ValueError("this model runs one step of a drawing in a pass: use the strategy OnePass")
        slots = Slots.of(run, len(run.plan.steps[run.step].run))
        return [states, slots.put(self._drawn(slots.take(states), slots, run, run.plan), states.shape[1])]

    def _remember(self, states: Tensor, run: Pass) -> None:
        """Keep the states of what is said; a drawing's own are not kept."""
        assert run.append is not None
        real = (run.index.sample != PADDING) & (run.index.kind != Kind.WRITE)
        counts = real.sum(dim=1).numpy()
        if counts.any():
            kept = run.append.cache.append(run.index, counts, run.rows, [self.history])
            kept.update(self.history, *states[:, None].chunk(2, dim=-1))
            kept.commit()

    # Drawing ------------------------------------------------------------------------------------------------

    def _drawn(self, states: Tensor, slots: Slots, run: Pass, plan: Plan) -> Tensor:
        """The decoder's part of a step: the language model's states at its slots [R, k, D] -> [R, k, W]."""
        assert run.append is not None
        levels = self.visual.positions(plan.shapes)[:, plan.steps[run.step].run.to(states.device)]
        inputs = self.vargpt.image_gen_projector_out(states).float() + levels
        label = torch.full((len(states), slots.count), run.step)
        sample = torch.where(torch.from_numpy(slots.active)[:, None], torch.zeros_like(label), PADDING)
        segment = run.index.segment.gather(1, slots.places(run.index.segment))
        index = Index(sample, segment, torch.full_like(label, int(Kind.WRITE)), label)
        own = range(self.behind, self.behind + len(self.visual))
        counts = np.where(slots.active, slots.count, 0)
        append = run.append.cache.append(index, counts, run.rows, own)
        behind = PassBehind(
            index,
            run.positions,
            append=append,
            attend=run.attend,
            plan=plan,
            step=run.step,
            condition=self._condition(run, slots),
            queries=None if run.queries is None else {},
            after=self.behind,
        )
        found = run_layers([self.visual], inputs, behind)[0]
        append.commit()
        if run.queries is not None and behind.queries is not None:
            width = run.index.sample.shape[1]
            run.queries |= {layer: slots.put_queries(q, width) for layer, q in behind.queries.items()}
        return found

    def _condition(self, run: Pass, slots: Slots) -> TextCondition:
        """What the decoder is told in each row. ValueError where nothing was read."""
        assert run.append is not None
        null = _needed(run.condition).null.numpy()
        halves = run.append.cache.held(self.history, run.rows)
        lengths = halves[2].copy()
        lengths[null] = lengths[~null][: null.sum()]  # null rows follow those that they belong to
        if (lengths[slots.active] == 0).any():
            raise ValueError("nothing has been read yet: feed a prompt first")
        told = self.vargpt.image_gen_projector_out(torch.cat(halves[:2], dim=-1)[:, 0])
        learnt = self.visual.text.cfg_uncond
        memory = [
            learnt[:length] if flag else row[:length]
            for row, length, flag in zip(told, lengths.clip(min=1).tolist(), null.tolist(), strict=True)
        ]
        return self.vargpt.steered(self.vargpt.pooled(torch.from_numpy(null)), memory)

    def write(self, plan: Plan, rows: int, condition: object = None) -> SlotWriter:
        """The state of one image being drawn in `rows` rows."""
        null = _needed(condition).null
        return SlotWriter(self, plan, Begun(self.vargpt.first_inputs(self.vargpt.pooled(null))))

    def positions(self, shapes: Shapes) -> Tensor:
        """[1, L, 1]: levels are added behind the language model."""
        return torch.zeros(1, area(shapes), 1, device=self.device)

    def first_inputs(self, condition: Begun) -> Tensor:
        return self.vargpt.image_gen_projector(condition.start)

    def later_inputs(self, vectors: Tensor) -> Tensor:
        return self.vargpt.image_gen_projector(self.visual.later_inputs(vectors))

    def vectors(self, codes: Tensor) -> Tensor:
        return self.visual.vectors(codes)

    def feed(self, shapes: Shapes) -> MapFeed:
        return self.visual.feed(shapes)


class SlotWriter(MapWriter):
    """Slots are read out from the decoder's states."""

    def predict(
        self, step: int, states: Sequence[Tensor], rows: int, before: Sequence[Tensor] | None
    ) -> Categorical:
        return super().predict(step, states[1:], rows, before)


def _needed(condition: Any) -> Branch:
    if condition is None:
        raise ValueError("nothing has been read yet: feed a prompt first")
    return condition  # type: ignore[no-any-return]
