"""One image written in a session: how it is opened, run, and finished or undone, for all strategies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unified.cache.policy import Held
from unified.decoding.context import Chunk
from unified.decoding.drawing import Choice, Contrast, Drawing, Hook, WriterState
from unified.decoding.guidance import Guidance, guide, needs_null
from unified.decoding.minimum_risk import Alike
from unified.decoding.sampling import Sampler
from unified.decoding.stats import Stats
from unified.heads.distribution import Distribution
from unified.layout.layout import Cursor, Layout
from unified.layout.patch_merging import folded_steps
from unified.orders import Plan

if TYPE_CHECKING:
    from unified.decoding.session import Session


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """What is to be written: the plan, the ids of its header, the rows that write, and how codes are chosen
    (see `Session.image`)."""

    plan: Plan
    header: list[int]
    active: list[bool]
    sampler: Sampler
    guidance: Guidance | None = None
    alike: Alike | None = None
    contrast: Contrast | None = None
    onward: bool = False
    hook: Hook | None = None


@dataclass(frozen=True)
class Ran:
    """A pass over positions of an image: for each head their `states` [R, n, D] and, at the first pass, those
    [R, D] of the position before (`last`). `chunk`: all that was run, each row's first `before` [R] positions
    not being the image's."""

    chunk: Chunk
    states: list[Tensor]
    last: list[Tensor] | None
    before: np.ndarray


@torch.no_grad()
def write_image(session: Session, request: ImageRequest) -> Iterator[Choice]:
    """Yields every step as it is committed. An image that is broken off leaves the session as if it had never
    been begun."""
    run = ImageRun(session, request)
    session.stats = Stats.of(len(session.rows))
    done = False
    try:
        yield from session.strategy.image(run)
        done = True
    finally:
        if not done:
            run.undo()
    run.finish()


class ImageRun:
    """The state of one image while it is written: in the rows of the session and, with guidance, in those
    of the null branch under them."""

    def __init__(self, session: Session, request: ImageRequest) -> None:
        self.session, self.request, self.context = session, request, session.context
        guided = needs_null(request.guidance, request.plan)
        self.first: Chunk | None = None  # what runs before the first step, in the same pass
        self.after: list[Cursor] = []  # where the rows stand after what was pending
        if guided:
            session.read_pending()
            session.read_null()
        self.rows = self.context.rows(0, 2 if guided else 1)
        self.count = self.rows.stop
        self.said = np.zeros(self.count, dtype=np.int64)  # positions that were pending
        if not guided:
            self._defer_pending()
        self.start = self.context.cache.lengths.copy()  # entries that are not the image's own
        self.start[self.rows] += self.said
        self.layout = self._open()
        self.onward: dict[int, Tensor] = {}  # by conversation
        self.folded = folded_steps(request.plan, session.vocabulary.merge)
        shape, device = (len(session.rows), request.plan.length), session.model.device
        codes = torch.zeros(shape, dtype=torch.long, device=device)
        self.drawing = Drawing(request.plan, codes, torch.zeros(shape, device=device))
        self.begun = False

    def _defer_pending(self) -> None:
        """What was said and not read runs with the first step."""
        session = self.session
        lists = [session.readable(row.pending) for row in session.rows]
        self.after = self.context.cursors[self.rows]
        if any(lists):
            self.first, self.after = self.context.chunk(
                session.model, lists, self.rows, session.pending_values()
            )
            if self.first is not None:
                self.said = self.first.counts
            self.context.forget(session.policy, self.first, self.rows)

    def _open(self) -> Layout:
        """The layout of the WRITE segment, codes to come; its header runs with the first step."""
        words, model, header = self.session.vocabulary, self.session.model, self.request.header
        segment = [*header, *[words.visual_start] * self.request.plan.length, words.close]
        flags = self.request.active * (self.count // len(self.request.active))
        ids = torch.tensor([segment if flag else [words.pad] * len(segment) for flag in flags])
        layout = Layout.of(ids, words, self.after or self.context.cursors[self.rows])
        part = layout.part(slice(0, len(header)))
        embeds = model.read(ids[:, : len(header)].to(model.device), part.to(model.device))
        if embeds is not None:
            chunk = Chunk.of(embeds, part.index, part.positions)
            self.first = chunk if self.first is None else self.first.then(chunk)
        return layout

    def open_writer(self, members: slice = slice(None)) -> WriterState:
        """What writes the image in these conversations, and in the null rows under them."""
        session, contrast = self.session, self.request.contrast
        rows, branches = session.rows[members], self.count // len(session.rows)
        condition = self.context.condition(self.rows, members)
        writer = session.model.write(self.request.plan, branches * len(rows), condition)
        contrast = contrast and Contrast(contrast.actions[members], contrast.weight)
        writer.refer([row.latest for row in rows], [row.acted for row in rows], contrast)
        self.onward |= {(members.start or 0) + n: vectors for n, vectors in writer.onward.items()}
        return writer

    @cached_property
    def writer(self) -> WriterState:
        """What writes the image in all rows, in step."""
        return self.open_writer()

    def step(self, step: int) -> Choice:
        """Run, choose and commit one step."""
        request, session = self.request, self.session
        choice = self._choose(step, *self._run(step))
        choice = request.hook(choice) if request.hook else choice
        self.writer.commit(step, choice.codes, choice.vectors)
        slots = request.plan.steps[step].decide
        self.drawing.codes[:, slots], self.drawing.log_probs[:, slots] = choice.codes, choice.log_probs
        if session.depth is not None:
            self._free_layers(step)
        return choice

    def _run(self, step: int) -> tuple[list[Tensor], list[Tensor] | None]:
        """For each head, hidden states [R, n, D] of the step's positions, and at the first step those [R, D]
        of the position before."""
        session, chunk = self.session, self._chunk(step)
        width = chunk.index.sample.shape[1]
        queries: dict[int, Tensor] | None = {} if session.policy.by_step and width else None
        ran = self.run(chunk, step=step, depth=session.depth, queries=queries)
        if queries is not None:
            self._ask_policy(step, {n: ran.chunk.queries(q, ran.before, width) for n, q in queries.items()})
        return ran.states, ran.last

    def run(self, chunk: Chunk, **told: Any) -> Ran:
        """Run positions of the image, at first with what comes before them, in one pass; `told` are further
        fields of the `Pass`."""
        session, before = self.session, np.zeros(self.count, dtype=np.int64)
        width = chunk.index.sample.shape[1]
        if self.first is not None:
            before, chunk, self.first = self.first.counts, self.first.then(chunk), None
        told = {"plan": self.request.plan, "parts": session.parts, **told}
        states = self.context.run(session.model, chunk, self.rows, **told)
        session.stats.passes += 1
        first = not self.begun
        if first:
            self._note(chunk, states[0])
        last = [chunk.states(x, before - 1, 1)[:, 0] for x in states] if first and before.any() else None
        return Ran(chunk, [chunk.states(x, before, width) for x in states], last, before)

    def _chunk(self, step: int) -> Chunk:
        part = self.layout.part(len(self.request.header) + self.folded[step].slots)
        return Chunk.of(self.writer.inputs(step), part.index, part.positions)

    def _note(self, chunk: Chunk, hidden: Tensor) -> None:
        """What was pending has been read."""
        self.begun, session = True, self.session
        if self.said.any():
            session.note(chunk.states(hidden, self.said - 1, 1)[:, 0], self.said > 0)
        if self.after:
            self.context.cursors[self.rows] = self.after
            for row in session.rows:
                row.pending = []

    def _choose(self, step: int, states: list[Tensor], before: list[Tensor] | None) -> Choice:
        session, request, rows = self.session, self.request, len(self.session.rows)
        predicted = self.predicted(self.writer, step, states, rows, before)
        drawn = self.chosen_from(predicted).sample(session.noise, self.places(step), request.sampler)
        codes = session.model.head.to_codes(drawn.values)
        return Choice(request.plan, step, codes, drawn.log_probs, predicted, request.sampler, session.noise)

    def predicted(
        self,
        writer: WriterState,
        step: int,
        states: Sequence[Tensor],
        rows: int,
        before: Sequence[Tensor] | None = None,
    ) -> Distribution:
        """What is predicted of the slots of a step in the `rows` conversations of a writer, guided."""
        guidance = self.request.guidance if self.count > len(self.session.rows) else None
        weight = guidance.weight(self.request.plan, step) if guidance is not None else 0.0
        found = writer.predict(step, states, 2 * rows if weight else rows, before)
        return guide(found, weight, rows) if weight else found

    def chosen_from(self, predicted: Distribution) -> Distribution:
        """What the sampler is given."""
        return self.request.alike(predicted) if self.request.alike else predicted  # type: ignore[arg-type]

    def places(self, step: int, members: slice = slice(None)) -> Tensor:
        """[B, n]: where in the streams the slots of a step stand, which index the noise."""
        offset = len(self.request.header) + self.request.plan.steps[step].decide
        return torch.tensor([[len(row.stream)] for row in self.session.rows[members]]) + offset

    def _ask_policy(self, step: int, queries: dict[int, Tensor]) -> None:
        """Layer by layer, which of the image's own entries stay."""
        cache, policy = self.context.cache, self.session.policy
        start = self.start[self.rows]
        for layer, asked in queries.items():
            entries, store = cache.entries[layer], cache.stores[layer]
            lengths = entries.lengths[self.rows]
            assert store.both is not None
            keys = store.both[0, self.rows, : int(lengths.max())]
            held = Held(
                entries.index(self.rows), lengths, layer, len(cache.stores), self.request.plan, step, start,
                keys, asked,
            )  # fmt: skip
            stays = policy.stays(held)
            if stays is not None:
                cache.keep([layer], self._with_others(stays, entries.lengths))

    def _with_others(self, stays: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """[R, K] of all rows of the cache: rows that do not write, and what is not the image's own, stay."""
        every = np.ones((len(lengths), int(lengths.max()), *stays.shape[2:]), dtype=bool)
        every[self.rows, : stays.shape[1]] = stays
        every[np.arange(every.shape[1]) < self.start[:, None]] = True
        return every

    def _free_layers(self, step: int) -> None:
        """Layers that no later step runs let go of the image."""
        depth, plan, cache = self.session.depth, self.request.plan, self.context.cache
        assert depth is not None
        layers = range(len(cache.stores))
        later = range(step + 1, len(plan.steps))
        done = [n for n in layers if later and not any(depth.runs(n, len(layers), plan, s) for s in later)]
        if done:
            cache.truncate(self.start, done)

    def undo(self) -> None:
        """As if the image had never been begun; what was pending and has been read stays read."""
        if self.begun:
            self.context.cache.truncate(self.start)
            self.context.cache.share()

    def finish(self) -> None:
        session = self.session
        if not session.policy.keeps_writes:
            self.context.cache.truncate(self.start)
            self.context.cache.share()
        self.context.cursors[self.rows] = list(self.layout.cursors)
        session.record(self.request, self.drawing, self.onward if self.request.onward else {})
