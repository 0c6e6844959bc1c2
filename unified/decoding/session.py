"""A session: prefill and generation for a batch of conversations. The only inference path.

A session holds one or more rows (conversations) with their KV cache. Text and actions are generated id by id,
images decoding step by decoding step of their plan, in all rows together. Chat, drawing, editing, frame
prediction and acting are short loops over these calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unified.backbone.layer_pass import Depth, LayerPart
from unified.bound import need_exact
from unified.cache.kv_cache import KVCache
from unified.cache.policy import CachePolicy, DropWrite
from unified.decoding.acting import generate_action
from unified.decoding.context import Context
from unified.decoding.drawing import Choice, Drawing, Generator, Hook
from unified.decoding.grammar import Grammar
from unified.decoding.grounding import Contrast, as_contrast
from unified.decoding.guidance import Guidance
from unified.decoding.image import write_image
from unified.decoding.image_request import ImageRequest, active_rows
from unified.decoding.minimum_risk import MinimumRisk
from unified.decoding.noise import Noise, PositionNoise
from unified.decoding.rows import Row, check_length, open_ids, per_row, readable
from unified.decoding.sampling import Sampler
from unified.decoding.strategies import OnePass, Stats, Strategy, build_strategy
from unified.decoding.text import TextRun, allowed_ids
from unified.extras.references import ActionContrast
from unified.finite import check_count
from unified.orders import plan_for
from unified.orders.shapes import as_shapes
from unified.readers.values import latest_values, split_values
from unified.stream.segments import segments


class Session:
    """`rows` conversations with one model. Row b samples with noise of the seed `seed` + b (or `seed[b]`) and
    the id's index in the stream, so a row gives the same ids alone or in a batch. `noise`: another source of
    random numbers; `policy`: which keys and values stay in the cache; `depth`: which layers the steps of an
    image run; `parts`: modules around the layers; `strategy`: how tokens and steps become passes, or its name
    (`stats`: those of the latest text or image). ValueError for another number of seeds than rows, or an
    unknown name."""

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
        strategy: Strategy | str | None = None,
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
        named = build_strategy(strategy) if isinstance(strategy, str) else strategy
        self.strategy: Strategy = named or OnePass()
        if not isinstance(self.strategy, OnePass):
            need_exact(model, f"the decoding strategy {type(self.strategy).__name__}, which compares codes,")
        self.stats = Stats.of(rows)
        self.context = Context(model.new_cache(rows), rows)
        self.rows = [Row() for _ in range(rows)]
        self.drawing: Drawing

    def __repr__(self) -> str:
        ids = ", ".join(str(len(row.stream)) for row in self.rows[:8]) + (", ..." if self.rows[8:] else "")
        count = f"{len(self.rows)} row{'s' if self.rows[1:] else ''}"
        return f"Session({count} of {ids} ids; {self.context.cache.length} cache entries)"

    def keep_in(self, cache: KVCache) -> Session:
        """Keep keys and values in this cache, which must be empty and have at least a row for each of the
        session's (guidance: two), for example `model.new_cache(2 * rows, 4096, static=True)`. ValueError for
        another."""
        if cache.rows < len(self.rows) or cache.length or any(row.stream for row in self.rows):
            raise ValueError(
                f"a new session of {len(self.rows)} rows needs an empty cache of as many, got one of "
                f"{cache.rows} with {cache.length} entries"
            )
        self.context = Context(cache, len(self.rows))
        return self

    def record_log_probs(self) -> Session:
        """From now on keep the log-probability of every id that is generated, see `log_probs`."""
        for row in self.rows:
            row.drawn = {} if row.drawn is None else row.drawn
        return self

    @property
    def recorded(self) -> bool:
        return self.rows[0].drawn is not None

    @property
    def log_probs(self) -> list[list[float]]:
        """For each id of `streams`, the log-probability with which it was drawn (after temperature, filters
        and guidance), plus for text and actions the log of the share that the model gives to the ids that
        were allowed there: at temperature 1 without filters, guidance and contrast the model's own. NaN for
        ids that were read, for those generated before `record_log_probs`, and for text of a speculative
        strategy."""
        return [row.log_probs() for row in self.rows]

    def restart(self, row: int, offset: int = 0) -> None:
        """Forget all that one row has said and read, its null branch too; the others are unchanged. `offset`:
        the index in the noise of the id that it says next."""
        self.context.restart(row)
        self.rows[row] = Row(offset=offset, drawn={} if self.recorded else None)

    @property
    def last(self) -> Tensor | None:
        """[B, D]: the first head's states after what each row has read."""
        states = self.context.last[0]
        return states[0] if states else None

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
        """Append ids to every row (one list per row; a single list goes to all) and prefill them. `values`:
        by name, the continuous values of their placeholders [N, C], row by row. `defer`: deferred prefill,
        together with whatever runs next. ValueError for malformed ids, and for more than fit into the
        model's context; the session is then unchanged."""
        lists = per_row(ids, len(self.rows))
        found = [segments(new, self.vocabulary) for new in lists]
        held = self.context.cache.lengths[self.context.rows()].tolist()
        check_length(self.model.context_length, held, self.rows, found, self.vocabulary)
        given = split_values(values or {}, lists, self.vocabulary)
        for row, new, parts, new_values in zip(self.rows, lists, found, given, strict=True):
            row.append(new, parts, self.vocabulary)
            row.append_values(new_values)
        if not defer:
            self.read_pending()

    @torch.no_grad()
    def read_pending(self) -> None:
        """Prefill the ids that were deferred."""
        lists = [self.readable(row.pending) for row in self.rows]
        if any(lists):
            self.context.read(self.model, lists, 0, self.pending_values(), self.parts)
        for row in self.rows:
            row.pending = []
        if any(lists):
            self.context.forget(self.policy)

    @torch.no_grad()
    def read_null(self) -> None:
        """Prefill the null branch with the ids since it was last used."""
        self.context.open_null()
        streams = [self.model.null_stream(self.readable(row.stream)) for row in self.rows]
        lists = [ids[row.null_read :] for ids, row in zip(streams, self.rows, strict=True)]
        if any(lists):
            self.context.read(self.model, lists, 1, self._values_of(lists), self.parts)
            for row, ids in zip(self.rows, streams, strict=True):
                row.null_read = len(ids)
            self.context.forget(self.policy)

    def pending_values(self) -> dict[str, Tensor]:
        """By name, the values [N, C] of the placeholders whose prefill is deferred."""
        return self._values_of([row.pending for row in self.rows])

    def _values_of(self, lists: list[list[int]]) -> dict[str, Tensor]:
        """By name, the values [N, C] of the placeholders in these lists, which are the latest ids of the
        rows."""
        return latest_values([row.values for row in self.rows], lists, self.vocabulary)

    def readable(self, ids: list[int], images: bool = True) -> list[int]:
        """The ids that the rows read (`rows.readable`)."""
        return readable(ids, self.vocabulary, images)

    # Text ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def text(
        self,
        *,
        sampler: Sampler | None = None,
        max_tokens: int = 256,
        draw: bool | Sequence[bool] = True,
        end: bool | Sequence[bool] = True,
        visual_contrast: float | Contrast = 0.0,
        contrast: float | None = None,
        grammar: Grammar | None = None,
    ) -> Iterator[list[int | None]]:
        """Generate text in every row until it ends its turn, starts an image or has `max_tokens` new ids.
        Yields one id per row as they come, None for rows that have stopped or say nothing at that moment (a
        strategy may find more ids of one row than of another); `stopped` then says why. Ids are counted as in
        the vocabulary; `end` is yielded too, `write` is not (call `image`). `draw` and `end`: whether rows,
        all or each, may start an image or end their turn. `visual_contrast`: weight of visual contrastive
        decoding against the same stream without images (`contrasted`; 0 is off), formerly named `contrast`,
        or another `Contrast`, such as `MutualInformation`. `grammar`: which of these ids may come next, given
        what was said since this call.
        ValueError before anything was read, for another number of flags than rows, or for a weight that is no
        finite number of at least 0."""
        against = as_contrast(visual_contrast if contrast is None else contrast)
        check_count("max_tokens", max_tokens)
        self.read_pending()
        if self.last is None:
            raise ValueError("nothing has been read yet: feed a prompt first")
        allowed = allowed_ids(self, draw, end)
        for row in self.rows:
            row.stopped = ""
        self.stats = Stats.of(len(self.rows))
        run = TextRun(self, sampler or Sampler(), max_tokens, allowed, against, grammar)
        yield from self.strategy.text(run)
        for row in self.rows:
            row.stopped = row.stopped or "length"

    def say(self, row: Row, token: int, log_prob: float = math.nan) -> int | None:
        """Append one generated id to a row (`Row.append_text`)."""
        return row.append_text(token, self.vocabulary, log_prob)

    @torch.no_grad()
    def action(
        self, *, sampler: Sampler | None = None, choices: Callable[[int], Sequence[int]] | None = None
    ) -> Tensor:
        """Generate one action in every row: ids counted from 0 [B, slots]. `choices(slot)`: the ids that a
        slot may take (an action tokenizer has it); without it any action id. ValueError before anything was
        read."""
        sampler, words = sampler or Sampler(), self.vocabulary
        self.read_pending()
        if self.last is None:
            raise ValueError("nothing has been read yet: feed a prompt first")
        actions, log_probs = generate_action(self, sampler, self.last, choices)
        for row, numbers, scores in zip(self.rows, actions.tolist(), log_probs.tolist(), strict=True):
            row.append_action([words.action_start + number for number in numbers], scores)
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
        minimum_risk: MinimumRisk | None = None,
        contrast: ActionContrast | None = None,
        carry: bool = False,
        hook: Hook | None = None,
        rows: Sequence[bool] | None = None,
    ) -> Iterator[Choice]:
        """Write an image of these map sizes in the rows marked in `rows` (default: all). Yields every step as
        it is committed; `drawing` holds the result. `data`: numbers from 1 to `max_side` that the order takes
        with each sample. The image is then appended as a READ segment whose
        prefill is deferred. `guidance`: classifier-free guidance; the null branch is the conversation without
        text, run in the same batched pass. `minimum_risk`: the sampler is given log expected gains in place
        of logits. `carry`: the next image after an action is made from the embeddings that the model's
        transition gave for this one, not from the embeddings of its codes; `contrast` moves them away from
        what other actions would give, and needs `carry`. `hook`: may overwrite the codes of each step.
        ValueError for an unknown order, flags and actions of another number of rows, guidance that is not
        finite, and (while it is written) for predictions that are not."""
        if minimum_risk is not None:
            need_exact(self.model, "minimum-risk decoding")
        plan = plan_for(order, as_shapes(shapes), tuple(data))
        open_ids(plan, self.vocabulary)  # refuses an order that the vocabulary has no id for
        request = ImageRequest(
            plan=plan,
            active=active_rows(rows, len(self.rows)),
            sampler=sampler or Sampler(),
            guidance=guidance,
            minimum_risk=minimum_risk,
            contrast=contrast,
            carry=carry,
            hook=hook,
        )
        return write_image(self, request)

    def record(self, request: ImageRequest, drawing: Drawing, vectors: dict[int, Tensor]) -> None:
        """Append a finished image to the streams; the prefill of its READ segment is deferred. `vectors`: by
        row, carried embeddings [R, D] that the next frame is made from in place of its codes'."""
        self.drawing = drawing
        for number, row in enumerate(self.rows):
            if request.active[number]:
                row.append_image(drawing, number, vectors.get(number), self.vocabulary)

    def draw(self, shapes: Sequence[int | Sequence[int]], **options: Any) -> Drawing:
        """`image` without streaming: the finished image."""
        for _ in self.image(shapes, **options):
            pass
        return self.drawing

    def stopped(self) -> list[str]:
        """Why each row's text ended: "end", "write" or "length"; "" where it has not."""
        return [row.stopped for row in self.rows]
