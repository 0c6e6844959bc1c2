"""Text said in a session: what the next ids are drawn from, for all strategies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unified.decoding.context import Context
from unified.decoding.guidance import contrasted
from unified.decoding.sampling import Sampler

if TYPE_CHECKING:
    from unified.decoding.session import Session


class TextRun:
    """At most `max_tokens` ids in every row, chosen by `sampler` among those `allowed` [B, V] bool. With a
    `contrast` words are set off against those of `blind`, a context that has read the streams without their
    images; `blind_last` [B, D]: the states after what it read."""

    def __init__(
        self, session: Session, sampler: Sampler, max_tokens: int, allowed: Tensor, contrast: float
    ) -> None:
        self.session, self.sampler, self.max_tokens = session, sampler, max_tokens
        self.allowed, self.contrast = allowed, contrast
        rows = len(session.rows)
        self.blind = Context(session.model.new_cache(rows), rows)
        self.blind_last: Tensor | None = None
        if contrast:
            self.read_blind([session.readable(row.stream, images=False) for row in session.rows])

    def read_blind(self, lists: Sequence[Sequence[int]]) -> None:
        """Read ids [B][n] without the images, if words are contrasted."""
        if not self.contrast:
            return
        model, rows = self.session.model, self.blind.rows()
        chunk, self.blind.cursors = self.blind.chunk(model, lists, rows)
        if chunk is None:
            raise ValueError("this model reads no text")
        hidden = self.blind.run(model, chunk, rows)[0]
        self.blind_last = chunk.states(hidden, chunk.counts - 1, 1)[:, 0]

    def logits(self, states: Tensor, blind: Tensor | None = None) -> Tensor:
        """[B, n, V] of what follows hidden states [B, n, D], and those [B, n, D] without the images; -inf for
        what is not allowed."""
        model = self.session.model
        logits = model.text_logits(states).masked_fill(~self.allowed[:, None], float("-inf"))
        if blind is not None:
            logits = contrasted(logits, model.text_logits(blind), self.contrast)
        return logits

    def places(self, count: int = 1) -> Tensor:
        """[B, count]: where in the streams the next ids will stand, which index the noise."""
        return torch.tensor([[len(row.stream)] for row in self.session.rows]) + torch.arange(count)
