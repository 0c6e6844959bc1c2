"""A session: what has been said so far, and its continuation. The only inference path.

A session holds one or more rows (conversations) that are read, and continued, together: text token by token,
an image step by step of its plan. Chat, drawing, editing, frame prediction and acting are short loops over
these calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unified.cache.context import CachePolicy, Context, DropWrite
from unified.decoding.drawing import Choice, Contrast, Drawing, Generator, Hook, Image
from unified.decoding.guidance import Guidance, check_contrast, contrasted, guide, needs_null
from unified.decoding.minimum_risk import Alike
from unified.decoding.noise import Noise, PositionNoise
from unified.decoding.sampling import Sampler
from unified.layout.layout import Cursor, Layout
from unified.layout.patch_merging import folded_steps
from unified.orders import Plan, plan_for
from unified.orders.shapes import as_shapes
from unified.stream.segments import Kind, Segment, segments


@dataclass
class _Row:
    stream: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)  # said, not yet read
    latest: Image | None = None
    acted: list[int] = field(default_factory=list)  # action ids said since then
    stopped: str = ""  # why the row's text ended: "end", "write", "length"


@dataclass(frozen=True)
class _Mark:
    """What is held back until an image's first step."""

    pending: list[list[int]]
    cursors: list[Cursor]


class Session:
    """`rows` conversations with one model. Row b samples with the noise of `seed` + b (or `seed[b]`), indexed
    by position: a row says the same alone or in a batch. `noise` replaces it; `policy` says which keys and
    values stay."""

    def __init__(
        self,
        model: Generator,
        *,
        rows: int = 1,
        seed: int | Sequence[int] = 0,
        noise: Noise | None = None,
        policy: CachePolicy | None = None,
    ) -> None:
        if rows < 1:
            raise ValueError(f"a session needs at least one row, got {rows}")
        seeds = [seed + row for row in range(rows)] if isinstance(seed, int) else list(seed)
        if len(seeds) != rows:
            raise ValueError(f"{rows} rows need {rows} seeds, got {len(seeds)}")
        self.model, self.vocabulary = model, model.vocabulary
        self.noise: Noise = noise or PositionNoise(seeds)
        self.policy: CachePolicy = policy or DropWrite()
        self.context = Context(model.new_cache(), rows)
        self.rows = [_Row() for _ in range(rows)]
        self.last: Tensor | None = None  # [B, D] hidden state after each row's last id

    @property
    def streams(self) -> list[list[int]]:
        """The ids of every row so far, WRITE segments included."""
        return [list(row.stream) for row in self.rows]

    # Reading ------------------------------------------------------------------------------------------------

    def feed(self, ids: Sequence[int] | Sequence[Sequence[int]], *, hold: bool = False) -> None:
        """Append ids to every row (one list per row; a single list goes to all). Malformed ids raise
        ValueError and leave the session as it was. With `hold` they are read together with what comes
        next."""
        lists = self._per_row(ids)
        found = [segments(new, self.vocabulary) for new in lists]
        for row, new, parts in zip(self.rows, lists, found, strict=True):
            row.stream += new
            row.pending += new
            self._remember(row, new, parts)
        if not hold:
            self._read_pending()

    def _remember(self, row: _Row, ids: list[int], parts: list[Segment]) -> None:
        """The last image that is read, and the actions since."""
        for part in parts:
            if part.kind == Kind.READ:
                (height, width), stop = part.shapes[-1], part.stop - 1
                codes = [token - self.vocabulary.visual_start for token in ids[stop - height * width : stop]]
                row.latest, row.acted = Image((height, width), codes), []
            elif part.kind == Kind.ACTION:
                row.acted += ids[part.start : part.stop]

    def _per_row(self, ids: Any) -> list[list[int]]:
        flat = not len(ids) or not hasattr(ids[0], "__len__")
        lists = [[int(token) for token in row] for row in ([ids] * len(self.rows) if flat else ids)]
        if len(lists) != len(self.rows):
            raise ValueError(f"{len(self.rows)} rows need {len(self.rows)} lists of ids, got {len(lists)}")
        return lists

    @torch.no_grad()
    def _read_pending(self, hold: bool = False) -> list[bool]:
        """Rows that had something to be read. It is held back, or read at once."""
        chunks = [self._readable(row.pending) for row in self.rows]
        last = self._prefill(self.context, chunks, hold) if any(chunks) else None
        for row in self.rows:
            row.pending = []
        fresh = [bool(chunk) for chunk in chunks]
        if last is not None:
            self._note(last, fresh)
        if last is not None or self.context.held:
            self._forget()
        return fresh

    def _note(self, last: Tensor, fresh: list[bool]) -> None:
        """The states [B, D] after what was read in some rows."""
        chosen = torch.tensor(fresh, device=last.device)[:, None]
        self.last = last if self.last is None else torch.where(chosen, last, self.last)

    def _readable(self, ids: list[int], images: bool = True) -> list[int]:
        """Ids without WRITE segments, which nothing later sees, or without any images."""
        if self.vocabulary.write not in ids and images:
            return ids
        left_out = (Kind.WRITE,) if images else (Kind.WRITE, Kind.READ)
        found = segments(ids, self.vocabulary)
        return [t for s in found if s.kind not in left_out for t in ids[s.start : s.stop]]

    def _prefill(self, context: Context, chunks: list[list[int]], hold: bool = False) -> Tensor | None:
        """Read one chunk per row, padded on the left. Returns the last hidden states [B, D]."""
        width = max(len(chunk) for chunk in chunks)
        padded = [[self.vocabulary.pad] * (width - len(chunk)) + chunk for chunk in chunks]
        device = self._device()
        ids = torch.tensor(padded, device=device)
        layout = Layout.of(ids, self.vocabulary, context.cursors)
        hidden = self.model.prefill(ids, layout, context, hold)
        context.cursors = list(layout.cursors)
        return None if hidden is None else hidden[:, -1]

    def _device(self) -> torch.device:
        return next(self.model.parameters()).device  # type: ignore[attr-defined]

    def _forget(self) -> None:
        """Ask the policy, which knows of what is held too; that stays."""
        index = self.context.index
        length = index.sample.shape[1]
        for _, held, _ in self.context.held:
            index = index.cat(held)
        slots = self.policy.slots(index)
        if slots is not None:
            self.context.keep(slots[slots < length])

    # Text ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def text(
        self,
        *,
        sampler: Sampler | None = None,
        max_tokens: int = 256,
        draw: bool | Sequence[bool] = True,
        end: bool | Sequence[bool] = True,
        contrast: float = 0.0,
    ) -> Iterator[list[int | None]]:
        """Continue every row with text until it ends its turn, asks to draw or has said `max_tokens` ids.
        Yields one id per row as they come, None for rows that have stopped; `stopped` then says why. Ids are
        counted as in the vocabulary; `end` is yielded too, `write` is not (call `image`). `draw` and `end`:
        whether rows, all or each, may do so. `contrast`: how far words are set off against what would be said
        without the images (`contrasted`; 0 is off). ValueError before anything was read, for another number
        of flags than rows, or for a contrast that is no number of at least 0."""
        sampler = sampler or Sampler()
        check_contrast(contrast)
        self._read_pending()
        if self.last is None:
            raise ValueError("nothing has been read yet: feed a prompt first")
        allowed = self._sayable(draw, end)
        for row in self.rows:
            row.stopped = ""
        below = Context(self.model.new_cache(), len(self.rows))
        unseen = [self._readable(row.stream, images=False) if contrast else [] for row in self.rows]
        for _ in range(max_tokens):
            places = torch.tensor([[len(row.stream)] for row in self.rows])
            logits = self.model.text_logits(self.last).masked_fill(~allowed, float("-inf"))
            if contrast:
                blind = self._prefill(below, unseen)
                logits = contrasted(logits, self.model.text_logits(blind), contrast)  # type: ignore[arg-type]
            drawn = sampler.draw(logits[:, None, None, :], self.noise, places).symbols.flatten()
            said = [self._say(row, token) for row, token in zip(self.rows, drawn.tolist(), strict=True)]
            if any(token is not None for token in said):
                yield said
            if all(row.stopped for row in self.rows):
                return
            self._read_pending()
            unseen = [[] if token is None else [token] for token in said]
        for row in self.rows:
            row.stopped = row.stopped or "length"

    def _sayable(self, draw: bool | Sequence[bool], end: bool | Sequence[bool]) -> Tensor:
        """[B, rows of the text head] bool: text, `part` and, where allowed, `write` and `end`."""
        words = self.vocabulary
        allowed = torch.zeros(len(self.rows), words.table_size, dtype=torch.bool, device=self._device())
        allowed[:, : words.text] = True
        allowed[:, words.part] = True
        for what, token, flags in (("draw", words.write, draw), ("end", words.end, end)):
            if not isinstance(flags, bool) and len(flags) != len(self.rows):
                raise ValueError(f"{what} needs one flag for each of {len(self.rows)} rows, got {len(flags)}")
            allowed[:, token] = torch.as_tensor(flags, device=allowed.device)
        return allowed

    def _say(self, row: _Row, token: int) -> int | None:
        if row.stopped:
            return None
        if token == self.vocabulary.write:
            row.stopped = "write"
            return None
        row.stream.append(token)
        row.pending.append(token)
        if token == self.vocabulary.end:
            row.stopped = "end"
        return token

    @torch.no_grad()
    def action(
        self, *, sampler: Sampler | None = None, choices: Callable[[int], Sequence[int]] | None = None
    ) -> Tensor:
        """Continue every row with one action: ids counted from 0 [B, slots]. `choices(slot)` lists the ids a
        slot may take (an action tokenizer has it); without it any action id."""
        sampler, words = sampler or Sampler(), self.vocabulary
        self._read_pending()
        if self.last is None:
            raise ValueError("nothing has been read yet: feed a prompt first")
        blank = [[words.action_start] * words.action_slots] * len(self.rows)
        layout = Layout.of(torch.tensor(blank, device=self._device()), words, self.context.cursors)
        taken: list[Tensor] = []
        for slot in range(words.action_slots):
            places = torch.tensor([[len(row.stream) + slot] for row in self.rows])
            options = torch.tensor(
                list(choices(slot)) if choices else range(words.action), device=self._device()
            )
            logits = self.model.text_logits(self.last)[:, words.visual_start + options]
            drawn = sampler.draw(logits[:, None, None, :], self.noise, places).symbols.flatten()
            taken.append(options[drawn])
            part = layout.part(slice(slot, slot + 1))
            ids = (words.action_start + taken[-1])[:, None]
            self.last = self.model.prefill(ids, part, self.context)[:, -1]  # type: ignore[index]
        self.context.cursors = list(layout.cursors)
        actions = torch.stack(taken, dim=1)
        for row, numbers in zip(self.rows, actions.tolist(), strict=True):
            said = [words.action_start + number for number in numbers]
            row.stream += said
            row.acted += said
        self._forget()
        return actions

    # Images -------------------------------------------------------------------------------------------------

    def image(
        self,
        shapes: Sequence[int | Sequence[int]],
        *,
        order: str = "next_scale",
        sampler: Sampler | None = None,
        guidance: Guidance | None = None,
        alike: Alike | None = None,
        contrast: Contrast | None = None,
        onward: bool = False,
        hook: Hook | None = None,
        rows: Sequence[bool] | None = None,
    ) -> Iterator[Choice]:
        """Write an image of these map sizes in the rows marked in `rows` (all). Yields every step as it is
        committed; `drawing` holds the result. The image is then read, so the conversation goes on. `guidance`
        compares with the same conversation without words, in one batched pass; with `alike` the sampler is
        given what codes gain together; with `onward` the next image after an action goes on from what the
        model's transition made of this one, set off against other actions by a `contrast`, and not from the
        codes chosen; `hook` may overwrite each step."""
        plan = plan_for(order, as_shapes(shapes))
        header = self.vocabulary.open_write(order, plan.shapes)
        active = [True] * len(self.rows) if rows is None else [bool(flag) for flag in rows]
        if len(active) != len(self.rows) or not any(active):
            raise ValueError(f"rows must mark at least one of {len(self.rows)} rows")
        if contrast is not None and len(contrast.actions) != len(self.rows):
            raise ValueError(f"{len(self.rows)} rows need as many actions, got {len(contrast.actions)}")
        if contrast is not None and not onward:
            raise ValueError("a contrast is of what is gone on from: it needs onward")
        sampler = sampler or Sampler()
        return self._write(plan, header, active, sampler, guidance, alike, contrast, onward, hook)

    @torch.no_grad()
    def _write(
        self,
        plan: Plan,
        header: list[int],
        active: list[bool],
        sampler: Sampler,
        guidance: Guidance | None,
        alike: Alike | None,
        contrast: Contrast | None,
        onward: bool,
        hook: Hook | None,
    ) -> Iterator[Choice]:
        guided, before = needs_null(guidance, plan), self._mark()
        fresh = self._read_pending(hold=not guided)
        said, start = self.context.ahead, self.context.length
        done = False
        try:
            room = len(header) + plan.length
            branch = self._branch(room) if guided else self.context
            layout = self._open(branch, plan, header, active)
            writer = self.model.write(plan, branch.rows, branch.condition)
            writer.refer([row.latest for row in self.rows], [row.acted for row in self.rows], contrast)
            drawing = self._blank(plan)
            folded = folded_steps(plan, self.vocabulary.fold)
            for step, slots in enumerate(plan.steps):
                part = layout.part(len(header) + folded[step].slots.to(drawing.codes.device))
                ahead = branch.ahead
                hidden = branch.run(self.model, writer.inputs(step), part.index, part.positions)
                if step == 0 and said:
                    self._note(hidden[:, said - 1], fresh)
                states = writer.states(step, hidden[:, ahead:])
                choice = self._choose(plan, step, states, len(header), sampler, guidance, alike)
                choice = hook(choice) if hook else choice
                writer.commit(step, choice.codes, choice.vectors)
                drawing.codes[:, slots], drawing.log_probs[:, slots] = choice.codes, choice.log_probs
                yield choice
            done = True
        finally:
            if not done:  # broken off: as if the image had never been begun
                self._go_back(before, start)
        self.drawing = drawing
        if branch is not self.context and self.policy.keeps_writes:
            self.context = branch.first(len(self.rows))
        elif not self.policy.keeps_writes:
            self.context.keep(torch.arange(start))
        self.context.cursors = list(layout.cursors)[: len(self.rows)]
        self._record(header, active, writer.onward if onward else {})

    def _mark(self) -> _Mark:
        return _Mark([list(row.pending) for row in self.rows], list(self.context.cursors))

    def _go_back(self, before: _Mark, start: int) -> None:
        """To the first `start` positions or, where they were held and never run, to what was there before."""
        if not self.context.held:
            self.context.keep(torch.arange(start))
            return
        self.context.held = []
        self.context.cursors = before.cursors
        for row, pending in zip(self.rows, before.pending, strict=True):
            row.pending = pending

    def _blank(self, plan: Plan) -> Drawing:
        codes = torch.zeros(len(self.rows), plan.length, dtype=torch.long, device=self._device())
        return Drawing(plan, codes, torch.zeros(codes.shape, device=codes.device))

    def _choose(
        self,
        plan: Plan,
        step: int,
        hidden: Tensor,
        offset: int,
        sampler: Sampler,
        guidance: Guidance | None,
        alike: Alike | None,
    ) -> Choice:
        weight = guidance.weight(plan, step) if guidance and len(hidden) > len(self.rows) else 0.0
        logits = self.model.head.logits(hidden if weight else hidden[: len(self.rows)])
        logits = guide(logits, weight) if weight else logits
        places = torch.tensor([[len(row.stream) + offset] for row in self.rows]) + plan.steps[step]
        drawn = sampler.draw(alike(logits) if alike else logits, self.noise, places)
        codes = self.model.head.to_codes(drawn.symbols)
        return Choice(plan, step, codes, drawn.log_probs, logits, sampler, self.noise)

    def _branch(self, room: int) -> Context:
        """The conversation stacked on its null branch, with room for an image."""
        below = Context(self.model.new_cache(), len(self.rows))
        streams = [self._readable(self.model.null_stream(row.stream)) for row in self.rows]
        self._prefill(below, streams)
        return self.context.stack(below, room)

    def _open(self, branch: Context, plan: Plan, header: list[int], active: list[bool]) -> Layout:
        """Read the header into the branch; the layout of the whole WRITE segment, codes to come."""
        words = self.vocabulary
        segment = [*header, *[words.visual_start] * plan.length, words.close]
        pad = [words.pad] * len(segment)
        flags = active * (branch.rows // len(active))
        ids = torch.tensor([segment if flag else pad for flag in flags], device=self._device())
        layout = Layout.of(ids, words, branch.cursors)
        count = len(header)
        self.model.prefill(ids[:, :count], layout.part(slice(0, count)), branch, hold=True)
        return layout

    def _record(self, header: list[int], active: list[bool], onward: Mapping[int, Tensor]) -> None:
        """Add the finished image to the streams; it is read together with what comes next."""
        words, drawing = self.vocabulary, self.drawing
        reads = drawing.read().tolist()
        for number, row in enumerate(self.rows):
            if active[number]:
                codes = words.visual_ids(drawing.codes[number].tolist())
                read = words.read_segment(reads[number], drawing.plan.read_shapes)
                row.stream += [*header, *codes, words.close, *read]
                row.pending += read
                (height, width), last = drawing.plan.read_shapes[-1], reads[number]
                codes = last[len(last) - height * width :]
                row.latest = Image((height, width), codes, onward.get(number))
                row.acted = []

    def draw(self, shapes: Sequence[int | Sequence[int]], **options: Any) -> Drawing:
        """`image` without streaming."""
        for _ in self.image(shapes, **options):
            pass
        return self.drawing

    def stopped(self) -> list[str]:
        """Why each row's text ended: "end", "write" or "length"."""
        return [row.stopped for row in self.rows]
