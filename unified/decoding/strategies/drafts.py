"""Drafts: cheap guesses of what the model will choose, which the model then verifies.

`Shallow`: the model itself with some layers left out (self-speculative decoding, "Draft & Verify", Zhang et
al., arXiv 2309.08168). `PromptLookup`: what followed the same ids earlier in the stream (prompt lookup
decoding, Saxena 2023; LLMA, Yang et al., arXiv 2304.04487).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from unified.backbone.layer_pass import Depth
from unified.decoding.context import Chunk, Context, Reads
from unified.decoding.strategies.tree_guesses import Level, NodeChunk
from unified.layout.layout import Cursor, Layout
from unified.orders import Plan

if TYPE_CHECKING:
    from unified.decoding.session import Session


class Draft(Protocol):
    """Entries that it adds to the session's cache, and cursors that it moves, are rolled back before what it
    drafted is verified."""

    def text(self, session: Session, drafted: Sequence[Sequence[int]]) -> Tensor | None:
        """Logits [B, V] of the id after each row's stream and the ids `drafted` of it so far (rows that draft
        no more have fewer than others); a row of -inf guesses nothing. None: it guesses nothing at all."""
        ...

    def image(
        self, session: Session, chunk: Chunk, rows: slice, plan: Plan, step: int
    ) -> list[Tensor] | None:
        """For each head, hidden states [R, n, D] of positions of an image, one step of each row, `step` being
        that of the slowest (a `DraftChunk`, which has what went before). None: it guesses no images."""
        ...


@dataclass(frozen=True, kw_only=True)
class Shallow:
    """The same model without the layers `skipped` (counted from 0; None: every second one, the first stays),
    and at the steps of images under a depth policy besides (which sees the step of the slowest row: a row
    may then be drafted differently in a batch). It reads the keys that whole passes left."""

    skipped: tuple[int, ...] | None = None
    depth: Depth | None = None

    def layers(self, session: Session) -> frozenset[int]:
        """Those left out."""
        every_second = range(1, session.model.layer_count, 2)
        return frozenset(every_second if self.skipped is None else self.skipped)

    def text(self, session: Session, drafted: Sequence[Sequence[int]]) -> Tensor:
        """Runs what was drafted last; at first what was said and not read."""
        context, count = session.context, max(map(len, drafted))
        new = [
            ids[count - 1 : count] if count else row.pending
            for ids, row in zip(drafted, session.rows, strict=True)
        ]
        assert session.last is not None
        if not any(new):
            return session.model.text_logits(session.last)
        chunk, cursors = token_chunk(context, session.model, new)
        rows, skipped = context.rows(), self.layers(session)
        hidden = context.run(session.model, chunk, rows, parts=session.parts, skipped=skipped)[0]
        context.cursors[rows] = cursors
        session.stats.draft_passes += 1
        fresh = torch.from_numpy(chunk.counts > 0).to(hidden.device)[:, None]
        states = chunk.states(hidden, chunk.counts - 1, 1)[:, 0]
        return session.model.text_logits(torch.where(fresh, states, session.last))

    def text_tree(self, session: Session, level: Level) -> Tensor:
        """`TreeDraft.text_tree`."""
        if not level.depth:
            return self.text(session, [[]] * len(session.rows))[:, None]
        context, skipped = session.context, self.layers(session)
        chunk, tree = level.chunk(context, session.model)
        found = context.run(session.model, chunk, context.rows(), tree, parts=session.parts, skipped=skipped)
        session.stats.draft_passes += 1
        return session.model.text_logits(level.by_node(found[0]))

    def image(self, session: Session, chunk: Chunk, rows: slice, plan: Plan, step: int) -> list[Tensor]:
        tree = chunk.tree if isinstance(chunk, NodeChunk) else None
        told = {"plan": plan, "step": step, "parts": session.parts, "depth": self.depth}
        skipped = self.layers(session)
        session.stats.draft_passes += 1
        return session.context.run(session.model, chunk, rows, tree, skipped=skipped, **told)

    image_tree = image


@dataclass(frozen=True, kw_only=True)
class PromptLookup:
    """Text alone, at no cost: the latest earlier place where a row's last ids stand, as many as `longest` and
    at least one, says what follows."""

    longest: int = 3

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise ValueError(f"prompt lookup compares at least one id, got longest={self.longest}")

    def text(self, session: Session, drafted: Sequence[Sequence[int]]) -> Tensor:
        words, device = session.vocabulary, session.model.device
        logits = torch.full((len(drafted), words.table_size), float("-inf"), device=device)
        for number, (row, ids) in enumerate(zip(session.rows, drafted, strict=True)):
            token = self.follows([*row.stream, *ids])
            if token is not None and token < words.table_size:
                logits[number, token] = 0.0
        return logits

    def follows(self, ids: Sequence[int]) -> int | None:
        """What followed the longest ending of ids that stands earlier in them."""
        stream = np.asarray(ids)
        for size in range(min(self.longest, len(stream) - 1), 0, -1):
            windows = np.lib.stride_tricks.sliding_window_view(stream[:-1], size)
            found = (windows == stream[-size:]).all(axis=1).nonzero()[0]
            if len(found):
                return int(stream[found[-1] + size])
        return None

    def text_tree(self, session: Session, level: Level) -> Tensor:
        """`TreeDraft.text_tree`: after every node one guess."""
        found = []
        for node in level.nodes:
            paths = [
                level.guesses.path(row, node) if node in present else []
                for row, present in enumerate(level.present)
            ]
            found.append(self.text(session, paths))
        return torch.stack(found, dim=1)

    def image(self, session: Session, chunk: Chunk, rows: slice, plan: Plan, step: int) -> None:
        """It guesses no images."""

    image_tree = image


def token_chunk(context: Context, model: Reads, lists: Sequence[Sequence[int]]) -> tuple[Chunk, list[Cursor]]:
    """Ids of text [B][n] after what the conversations of a context have read, and where the rows stand after
    them. ValueError for a model that reads no text."""
    width = max(1, *map(len, lists))
    ids = torch.tensor([[*given, *[model.vocabulary.pad] * (width - len(given))] for given in lists])
    layout = Layout.tokens(context.cursors[context.rows()], [len(given) for given in lists])
    embeds = model.read(ids.to(model.device), layout.to(model.device))
    if embeds is None:
        raise ValueError("this model reads no text")
    return Chunk.of(embeds, *layout.merged()), list(layout.cursors)
