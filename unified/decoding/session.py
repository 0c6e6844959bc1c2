"""A session: what has been said so far, and its continuation. The only inference path.

A session holds one or more rows (conversations) that are read, and continued, together: text token by token,
an image step by step of its plan. Chat, drawing, editing, frame prediction and acting are short loops over
these calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.backbone.layer_pass import Depth, LayerPart
from unified.cache.policy import CachePolicy, DropWrite
from unified.decoding.context import Chunk, Context
from unified.decoding.drawing import Choice, Contrast, Drawing, Generator, Hook, Image
from unified.decoding.guidance import Guidance, check_contrast
from unified.decoding.image import ImageRequest, write_image
from unified.decoding.minimum_risk import Alike
from unified.decoding.noise import Noise, PositionNoise
from unified.decoding.sampling import Sampler
from unified.decoding.strategies import OnePass, Stats, Strategy
from unified.decoding.text import TextRun
from unified.layout.layout import Layout
from unified.orders import plan_for
from unified.orders.shapes import as_shapes
from unified.readers.values import latest_values, split_values
from unified.stream.segments import Kind, Segment, segments


@dataclass
class Row:
    """One conversation: `stream`, its ids so far; `pending`, those not yet read; `null_read`, how many ids
    of its null stream were read; `values`, by name, what stands at its placeholders; `latest`, the image
    last shown; `acted`, the action ids since then; `stopped`, why its text ended: "end", "write",
    "length"."""

    stream: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    null_read: int = 0
    values: dict[str, Tensor] = field(default_factory=dict)
    latest: Image | None = None
    acted: list[int] = field(default_factory=list)
    stopped: str = ""


class Session:
    """`rows` conversations with one model. Row b samples with the noise of `seed` + b (or `seed[b]`), indexed
    by position: a row says the same alone or in a batch. `noise` replaces it; `policy` says which keys and
    values stay, `depth` which layers the steps of an image run, `parts` what is plugged in around layers,
    `strategy` how tokens and steps become passes. `stats`: of the latest text or image, its passes."""

    def __init__(
        self,
        model: Generator,
        *,
        rows: int = 1,
        seed: int | Sequence[int] = 0,
        noise: Noise | None = None,
        policy: CachePolicy | None = None,
        depth: Depth | None = None,
        parts: Sequence[LayerPart] = (),
        strategy: Strategy | None = None,
    ) -> None:
        if rows < 1:
            raise ValueError(f"a session needs at least one row, got {rows}")
        seeds = [seed + row for row in range(rows)] if isinstance(seed, int) else list(seed)
        if len(seeds) != rows:
            raise ValueError(f"{rows} rows need {rows} seeds, got {len(seeds)}")
        self.model, self.vocabulary = model, model.vocabulary
        self.noise: Noise = noise or PositionNoise(seeds)
        self.policy: CachePolicy = policy or DropWrite()
        self.depth, self.parts = depth, parts
        self.strategy: Strategy = strategy or OnePass()
        self.stats = Stats.of(rows)
        self.context = Context(model.new_cache(rows), rows)
        self.rows = [Row() for _ in range(rows)]
        self.last: Tensor | None = None  # [B, D] hidden state after each row's last id
        self.drawing: Drawing

    @property
    def streams(self) -> list[list[int]]:
        """The ids of every row so far, WRITE segments included."""
        return [list(row.stream) for row in self.rows]

    # Reading ------------------------------------------------------------------------------------------------

    def feed(
        self,
        ids: Sequence[int] | Sequence[Sequence[int]],
        *,
        values: Mapping[str, Tensor] | None = None,
        defer: bool = False,
    ) -> None:
        """Append ids to every row (one list per row; a single list goes to all). `values`: by name, what
        stands at their placeholders, [N, C], row by row. Malformed ids raise ValueError and leave the
        session as it was. With `defer` they are read together with what comes next (deferred prefill)."""
        lists = self._per_row(ids)
        found = [segments(new, self.vocabulary) for new in lists]
        given = split_values(values or {}, lists, self.vocabulary)
        for row, new_values in zip(self.rows, given, strict=True):
            for name, vectors in new_values.items():
                row.values[name] = torch.cat([*([row.values[name]] if name in row.values else []), vectors])
        for row, new, parts in zip(self.rows, lists, found, strict=True):
            row.stream += new
            row.pending += new
            self._remember(row, new, parts)
        if not defer:
            self.read_pending()

    def _remember(self, row: Row, ids: list[int], parts: list[Segment]) -> None:
        """The last image that is read, and the actions since."""
        for part in parts:
            if part.kind == Kind.READ and part.placeholder:
                row.latest, row.acted = None, []
            elif part.kind == Kind.READ:
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
    def read_pending(self) -> None:
        """Read all that was said and not yet read."""
        rows = self.context.rows()
        lists = [self.readable(row.pending) for row in self.rows]
        if any(lists):
            chunk, cursors = self.context.chunk(self.model, lists, rows, self.pending_values())
            if chunk is not None:
                hidden = self.context.run(self.model, chunk, rows, parts=self.parts)[0]
                self.note(chunk.states(hidden, chunk.counts - 1, 1)[:, 0], chunk.counts > 0)
            self.context.cursors[rows] = cursors
        for row in self.rows:
            row.pending = []
        if any(lists):
            self.context.forget(self.policy)

    def read_null(self) -> None:
        """Read, in the null branch, what was said since it was last needed."""
        self.context.open_null()
        rows = self.context.rows(1)
        streams = [self.model.null_stream(self.readable(row.stream)) for row in self.rows]
        lists = [ids[row.null_read :] for ids, row in zip(streams, self.rows, strict=True)]
        if any(lists):
            chunk, cursors = self.context.chunk(self.model, lists, rows, self._values_of(lists))
            if chunk is not None:
                self.context.run(self.model, chunk, rows, parts=self.parts)
            self.context.cursors[rows] = cursors
            for row, ids in zip(self.rows, streams, strict=True):
                row.null_read = len(ids)
            self.context.forget(self.policy)

    def pending_values(self) -> dict[str, Tensor]:
        """By name, what stands at the placeholders that were not yet read."""
        return self._values_of([row.pending for row in self.rows])

    def _values_of(self, lists: list[list[int]]) -> dict[str, Tensor]:
        """By name, what stands at the placeholders of the rows' latest ids."""
        return latest_values([row.values for row in self.rows], lists, self.vocabulary)

    def note(self, last: Tensor, fresh: np.ndarray) -> None:
        """The states [B, D] after what was read in the rows marked in `fresh` [B]."""
        chosen = torch.from_numpy(fresh).to(last.device)[:, None]
        self.last = last if self.last is None else torch.where(chosen, last, self.last)

    def readable(self, ids: list[int], images: bool = True) -> list[int]:
        """Ids without WRITE segments, which nothing later sees, or without any images."""
        if self.vocabulary.write not in ids and images:
            return ids
        left_out = (Kind.WRITE,) if images else (Kind.WRITE, Kind.READ)
        found = segments(ids, self.vocabulary)
        return [t for s in found if s.kind not in left_out for t in ids[s.start : s.stop]]

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
        Yields one id per row as they come, None for rows that have stopped or say nothing at that moment (a
        strategy may find more ids of one row than of another); `stopped` then says why. Ids are counted as in
        the vocabulary; `end` is yielded too, `write` is not (call `image`). `draw` and `end`: whether rows,
        all or each, may do so. `contrast`: how far words are set off against what would be said without the
        images (`contrasted`; 0 is off). ValueError before anything was read, for another number of flags
        than rows, or for a contrast that is no number of at least 0."""
        check_contrast(contrast)
        self.read_pending()
        if self.last is None:
            raise ValueError("nothing has been read yet: feed a prompt first")
        allowed = self._sayable(draw, end)
        for row in self.rows:
            row.stopped = ""
        self.stats = Stats.of(len(self.rows))
        yield from self.strategy.text(TextRun(self, sampler or Sampler(), max_tokens, allowed, contrast))
        for row in self.rows:
            row.stopped = row.stopped or "length"

    def _sayable(self, draw: bool | Sequence[bool], end: bool | Sequence[bool]) -> Tensor:
        """[B, rows of the text head] bool: text, `part` and, where allowed, `write` and `end`."""
        words = self.vocabulary
        allowed = torch.zeros(len(self.rows), words.table_size, dtype=torch.bool, device=self.model.device)
        allowed[:, : words.text] = True
        allowed[:, list(words.named_ids)] = False
        allowed[:, words.part] = True
        for what, token, flags in (("draw", words.write, draw), ("end", words.end, end)):
            if not isinstance(flags, bool) and len(flags) != len(self.rows):
                raise ValueError(f"{what} needs one flag for each of {len(self.rows)} rows, got {len(flags)}")
            allowed[:, token] = torch.as_tensor(flags, device=allowed.device)
        return allowed

    def say(self, row: Row, token: int) -> int | None:
        """Add a token to what a row said; None if nothing comes of it, since the row has stopped or asks to
        draw."""
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
        self.read_pending()
        if self.last is None:
            raise ValueError("nothing has been read yet: feed a prompt first")
        rows, device = self.context.rows(), self.model.device
        blank = torch.tensor([[words.action_start] * words.action_slots] * len(self.rows))
        layout = Layout.of(blank, words, self.context.cursors[rows])
        taken: list[Tensor] = []
        for slot in range(words.action_slots):
            places = torch.tensor([[len(row.stream) + slot] for row in self.rows])
            options = torch.tensor(list(choices(slot)) if choices else range(words.action), device=device)
            logits = self.model.text_logits(self.last)[:, words.visual_start + options]
            drawn = sampler.draw(logits[:, None, None, :], self.noise, places).symbols.flatten()
            taken.append(options[drawn])
            part = layout.part(slice(slot, slot + 1))
            embeds = self.model.read((words.action_start + taken[-1])[:, None], part.to(device))
            if embeds is not None:
                chunk = Chunk.of(embeds, part.index, part.positions)
                self.last = self.context.run(self.model, chunk, rows, parts=self.parts)[0][:, -1]
        self.context.cursors[rows] = list(layout.cursors)
        actions = torch.stack(taken, dim=1)
        for row, numbers in zip(self.rows, actions.tolist(), strict=True):
            said = [words.action_start + number for number in numbers]
            row.stream += said
            row.acted += said
        self.context.forget(self.policy)
        return actions

    # Images -------------------------------------------------------------------------------------------------

    def image(
        self,
        shapes: Sequence[int | Sequence[int]],
        *,
        order: str = "next_scale",
        data: Sequence[int] = (),
        sampler: Sampler | None = None,
        guidance: Guidance | None = None,
        alike: Alike | None = None,
        contrast: Contrast | None = None,
        onward: bool = False,
        hook: Hook | None = None,
        rows: Sequence[bool] | None = None,
    ) -> Iterator[Choice]:
        """Write an image of these map sizes in the rows marked in `rows` (all). Yields every step as it is
        committed; `drawing` holds the result. `data`: what else the order is given (per sample; numbers
        from 1 to `max_side`). The image is then read, so the conversation goes on. `guidance` compares with
        the same conversation without words, in one batched pass; with `alike` the sampler is given what
        codes gain together; with `onward` the next image after an action goes on from what the model's
        transition made of this one, set off against other actions by a `contrast`, and not from the codes
        chosen; `hook` may overwrite each step."""
        plan = plan_for(order, as_shapes(shapes), tuple(data))
        active = [True] * len(self.rows) if rows is None else [bool(flag) for flag in rows]
        if len(active) != len(self.rows) or not any(active):
            raise ValueError(f"rows must mark at least one of {len(self.rows)} rows")
        if contrast is not None and len(contrast.actions) != len(self.rows):
            raise ValueError(f"{len(self.rows)} rows need as many actions, got {len(contrast.actions)}")
        if contrast is not None and not onward:
            raise ValueError("a contrast is of what is gone on from: it needs onward")
        request = ImageRequest(
            plan=plan,
            header=self.vocabulary.open_write(order, plan.shapes, plan.data),
            active=active,
            sampler=sampler or Sampler(),
            guidance=guidance,
            alike=alike,
            contrast=contrast,
            onward=onward,
            hook=hook,
        )
        return write_image(self, request)

    def record(self, request: ImageRequest, drawing: Drawing, vectors: dict[int, Tensor]) -> None:
        """Add a finished image to the streams; it is read together with what comes next. `vectors`: by row,
        what the next frame is made from in its codes' place."""
        self.drawing = drawing
        words, reads = self.vocabulary, drawing.read().tolist()
        for number, row in enumerate(self.rows):
            if request.active[number]:
                codes = words.visual_ids(drawing.codes[number].tolist())
                read = words.read_segment(reads[number], drawing.plan.read_shapes)
                row.stream += [*request.header, *codes, words.close, *read]
                row.pending += read
                (height, width), last = drawing.plan.read_shapes[-1], reads[number]
                row.latest = Image((height, width), last[len(last) - height * width :], vectors.get(number))
                row.acted = []

    def draw(self, shapes: Sequence[int | Sequence[int]], **options: Any) -> Drawing:
        """`image` without streaming."""
        for _ in self.image(shapes, **options):
            pass
        return self.drawing

    def stopped(self) -> list[str]:
        """Why each row's text ended: "end", "write" or "length"."""
        return [row.stopped for row in self.rows]
