"""Generation of one image in a session: how it is opened, run, and finished or undone, for all strategies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unified.backbone.layer_pass import layers_run
from unified.bound import is_exact
from unified.cache.policy import Held
from unified.decoding.context import Chunk, lay_out
from unified.decoding.drawing import Choice, Drawing, WriterState
from unified.decoding.guidance import needs_null
from unified.decoding.image_request import ImageRequest
from unified.decoding.rows import open_ids
from unified.decoding.stats import Stats
from unified.extras.references import ActionContrast
from unified.finite import refuse_prediction
from unified.heads.distribution import Distribution
from unified.layout.layout import Cursor, Layout
from unified.layout.patch_merging import merged_steps
from unified.stream.segments import Kind

if TYPE_CHECKING:
    from unified.decoding.session import Session


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
    """Run the steps of an image, yielding each as it is committed. If the iterator is closed or a step
    raises, the session is left as it was before the image."""
    run = ImageRun(session, request)
    session.stats = Stats.of(len(session.rows))
    done = False
    try:
        yield from session.strategy.image(run)
        run.check()
        done = True
    finally:
        if not done:
            run.undo()
    run.finish()


class ImageRun:
    """The state of one image while it is generated, in the rows of the session and, with guidance, those of
    the null branch after them."""

    def __init__(self, session: Session, request: ImageRequest) -> None:
        self.session, self.request, self.context = session, request, session.context
        self.header = open_ids(request.plan, session.vocabulary)
        guided = needs_null(request.guidance, request.plan)
        self.first: Chunk | None = None  # deferred prefill and header: run in the pass of the first step
        self.after: list[Cursor] = []  # cursors of the rows after the deferred prefill
        if guided:
            session.read_pending()
            session.read_null()
        self.rows = self.context.rows(0, 2 if guided else 1)
        self.count = self.rows.stop
        self.prefilled = np.zeros(self.count, dtype=np.int64)  # positions of the deferred prefill
        if not guided:
            self._defer_pending()
        self.start = self.context.cache.lengths_by_layer  # [L, R]: entries that are not the image's own
        self.start[:, self.rows] += self.prefilled
        self.layout = self._open()
        if not session.policy.by_step:  # such a policy keeps less
            before = self.context.cache.lengths[self.rows] + (0 if self.first is None else self.first.counts)
            self.context.cache.reserve(int(before.max()) + request.plan.length)
        self.carried: dict[int, Tensor] = {}  # by conversation, see `WriterState`
        self.steps = merged_steps(request.plan, session.vocabulary.merge)
        shape, device = (len(session.rows), request.plan.length), session.model.device
        codes = torch.zeros(shape, dtype=torch.long, device=device)
        self.drawing = Drawing(request.plan, codes, torch.zeros(shape, device=device))
        self.begun = False
        self.runs: Tensor | None = None  # [layers, steps] bool, with a depth policy
        if session.depth is not None:
            self.runs = layers_run(session.depth, request.plan, session.model.layer_count)

    def _defer_pending(self) -> None:
        """Put the deferred prefill into the pass of the first step."""
        session = self.session
        lists = [session.readable(row.pending) for row in session.rows]
        self.after = self.context.cursors[self.rows]
        if any(lists):
            self.first, self.after = self.context.chunk(
                session.model, lists, self.rows, session.pending_values()
            )
            if self.first is not None:
                self.prefilled = self.first.counts
            self.context.forget(session.policy, self.first, self.rows)

    def _open(self) -> Layout:
        """The layout of the WRITE segment without its codes; the header goes into the pass of the first
        step."""
        words, model, header = self.session.vocabulary, self.session.model, self.header
        segment = [*header, *[words.visual_start] * self.request.plan.length, words.close]
        flags = self.request.active * (self.count // len(self.request.active))
        ids = torch.tensor([segment if flag else [words.pad] * len(segment) for flag in flags])
        layout = lay_out(model, ids, self.after or self.context.cursors[self.rows])
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
        contrast = contrast and ActionContrast(contrast.actions[members], contrast.weight)
        images, actions, words = zip(*((row.reference, row.actions, row.words) for row in rows), strict=True)
        writer.set_reference(images, actions, contrast, words)
        self.carried |= {(members.start or 0) + n: vectors for n, vectors in writer.carried.items()}
        return writer

    @cached_property
    def writer(self) -> WriterState:
        """What writes the image in all rows, in step."""
        return self.open_writer()

    def step(self, step: int) -> Choice:
        """Run, choose and commit one step."""
        request = self.request
        choice = self._choose(step, *self._run(step))
        choice = request.hook(choice) if request.hook else choice
        self.writer.commit(step, choice.codes, choice.vectors)
        slots = request.plan.steps[step].decide
        self.drawing.codes[:, slots], self.drawing.log_probs[:, slots] = choice.codes, choice.log_probs
        if self.runs is not None:
            self._free_layers(self.runs, step)
        return choice

    def _run(self, step: int) -> tuple[list[Tensor], list[Tensor] | None]:
        """One pass: for each head, hidden states [R, n, D] of the step's positions, and at the first step
        those [R, D] of the position before them, else None: of the header's last id or, for a model that runs
        no header, of what was read last."""
        session, chunk = self.session, self._chunk(step)
        width, apart = chunk.index.sample.shape[1], None
        if self.first is not None and self.runs is not None and not self.runs[:, step].all():
            apart = self._read_first(self.first)
            if not width:  # the step only decides
                return [state[:, None][:, :0] for state in apart], apart
        elif self.first is None and not width:
            return self._run_nothing(chunk)
        queries: dict[int, Tensor] | None = {} if session.policy.by_step and width else None
        slots = self.steps[step].slots
        ran = self.run(chunk, step=step, slots=slots, depth=session.depth, queries=queries)
        if queries is not None:
            self._ask_policy(step, {n: ran.chunk.queries(q, ran.before, width) for n, q in queries.items()})
        return ran.states, ran.last or apart

    def run(self, chunk: Chunk, **told: Any) -> Ran:
        """One pass over positions of the image and, if it is the first, what comes before them; `told`:
        further fields of the `Pass`."""
        session, before = self.session, np.zeros(self.count, dtype=np.int64)
        width = chunk.index.sample.shape[1]
        if self.first is not None:
            before, chunk, self.first = self.first.counts, self.first.then(chunk), None
        told = {"plan": self.request.plan, "parts": session.parts, **told}
        states = self.context.run(session.model, chunk, self.rows, **told)
        session.stats.passes += 1
        last = None
        if not self.begun:
            self._note(chunk, states)
            last = self.context.latest(self.rows)
            if before.any():
                last = [chunk.states(x, before - 1, 1)[:, 0] for x in states]
        return Ran(chunk, [chunk.states(x, before, width) for x in states], last, before)

    def _read_first(self, chunk: Chunk) -> list[Tensor]:
        """What comes before the first step, in a pass of its own: it runs layers that the step skips. For
        each head, the states [R, D] of its last position."""
        session, self.first = self.session, None
        states = self.context.run(session.model, chunk, self.rows, parts=session.parts)
        self._note(chunk, states)
        return [chunk.states(x, chunk.counts - 1, 1)[:, 0] for x in states]

    def _run_nothing(self, chunk: Chunk) -> tuple[list[Tensor], list[Tensor] | None]:
        """As `_run`, of a step without positions: its slots are read out where something was run before."""
        latest = self.context.latest(self.rows)
        if latest is None:
            raise ValueError("nothing has been read yet: feed a prompt first")
        last = None if self.begun else latest
        if not self.begun:
            self._note(chunk, [])
        return [states[:, None][:, :0] for states in latest], last

    def _chunk(self, step: int) -> Chunk:
        part = self.layout.part(len(self.header) + self.steps[step].slots)
        return Chunk.of(self.writer.inputs(step), part.index, part.positions)

    def _note(self, chunk: Chunk, hidden: list[Tensor]) -> None:
        """After the first pass: the deferred prefill is done."""
        self.begun, session = True, self.session
        if self.prefilled.any():
            self.context.note(chunk, hidden, self.prefilled)
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
        guidance, plan = self.request.guidance, self.request.plan
        weight = guidance.weight(plan, step) if guidance is not None else 0.0
        found = writer.predict(step, states, 2 * rows if weight else rows, before)
        return found if guidance is None else guidance.predicted(found, states, plan, step, rows)

    def chosen_from(self, predicted: Distribution) -> Distribution:
        """What the sampler is given."""
        return self.request.minimum_risk(predicted) if self.request.minimum_risk else predicted

    def places(self, step: int, members: slice = slice(None)) -> Tensor:
        """[B, n]: where in the streams the slots of a step stand, which index the noise."""
        offset = len(self.header) + self.request.plan.steps[step].decide
        return torch.tensor([[row.place] for row in self.session.rows[members]]) + offset

    def _ask_policy(self, step: int, queries: dict[int, Tensor]) -> None:
        """Let the cache policy decide, layer by layer, which entries of this image stay. `queries`: by layer
        [R, H, n, D]."""
        cache, policy = self.context.cache, self.session.policy
        for layer, asked in queries.items():
            entries, store, start = cache.entries[layer], cache.stores[layer], self.start[layer]
            lengths = entries.lengths[self.rows]
            assert store.both is not None
            keys = store.both[0, self.rows, : int(lengths.max())]
            held = Held(
                entries.index(self.rows), lengths, layer, len(cache.stores), self.request.plan, step,
                start[self.rows], keys, asked,
            )  # fmt: skip
            stays = policy.stays(held)
            if stays is not None:
                cache.keep([layer], self._with_others(stays, entries.lengths, start))

    def _with_others(self, stays: np.ndarray, lengths: np.ndarray, start: np.ndarray) -> np.ndarray:
        """[R, K] of all rows of the cache: rows that do not write, and what is not the image's own, stay."""
        every = np.ones((len(lengths), int(lengths.max()), *stays.shape[2:]), dtype=bool)
        every[self.rows, : stays.shape[1]] = stays
        every[np.arange(every.shape[1]) < start[:, None]] = True
        return every

    def _free_layers(self, runs: Tensor, step: int) -> None:
        """Layers that no later step runs let go of the image and of its memory, once."""
        if step + 1 < runs.shape[1]:
            fresh = runs[:, step] if step else torch.ones_like(runs[:, 0])
            done = (fresh & ~runs[:, step + 1 :].any(dim=1)).nonzero()[:, 0].tolist()
            self.context.cache.truncate(self.start, done)
            self.context.cache.release(done)

    def check(self) -> None:
        """ValueError if logits were not finite, which leaves log-probabilities of NaN. Heads without a
        likelihood leave them always, and have looked at their values."""
        if is_exact(self.session.model.head) and bool(
            self.drawing.log_probs[self.request.active].isnan().any()
        ):
            refuse_prediction("logits")

    def undo(self) -> None:
        """Drop the image's entries; a deferred prefill that has run stays."""
        if self.begun:
            self.context.cache.truncate(self.start)
            self.context.cache.share()

    def finish(self) -> None:
        session = self.session
        writes = bool((self.layout.index.kind == Kind.WRITE).any())
        if writes and not session.policy.keeps_writes:
            self.context.cache.truncate(self.start)
            self.context.cache.share()
        self.context.cursors[self.rows] = list(self.layout.cursors)
        session.record(self.request, self.drawing, self.carried if self.request.carry else {})
