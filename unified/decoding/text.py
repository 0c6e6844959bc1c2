"""Text said in a session: what the next ids are drawn from, for all strategies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unified.decoding.context import Context
from unified.decoding.grammar import Grammar, Guide
from unified.decoding.grounding import Contrast
from unified.decoding.sampling import Sampler, kept_share
from unified.finite import check_logits
from unified.heads.distribution import Drawn

if TYPE_CHECKING:
    from unified.decoding.session import Session


class TextRun:
    """At most `max_tokens` ids in every row, chosen by `sampler` among those `allowed` [B, V] bool and, if
    there is one, by the `grammar`. With a `contrast` words are set off against those of `blind`, a context
    that has read the streams without their images."""

    def __init__(
        self,
        session: Session,
        sampler: Sampler,
        max_tokens: int,
        allowed: Tensor,
        contrast: Contrast,
        grammar: Grammar | None = None,
    ) -> None:
        self.session, self.sampler, self.max_tokens = session, sampler, max_tokens
        self.guide = None if grammar is None else Guide(grammar, session.rows)
        self.allowed, self.contrast = allowed, contrast if contrast.active else None
        self.first = torch.tensor([[row.place] for row in session.rows])  # where each row's text begins
        self.kept: Tensor  # [B, n]: log of the share of what is allowed, if it is recorded
        rows = len(session.rows)
        self.blind = Context(session.model.new_cache(rows), rows)
        self.read_blind([session.readable(row.stream, images=False) for row in session.rows])

    def read_blind(self, lists: Sequence[Sequence[int]]) -> None:
        """Read ids [B][n] without the images, if words are contrasted."""
        if not self.contrast:
            return
        if not self.blind.read(self.session.model, lists):
            raise ValueError("this model reads no text")

    @property
    def contexts(self) -> list[Context]:
        """Those that ids are predicted from: the session's and, with a contrast, the one without images."""
        return [self.session.context, self.blind] if self.contrast else [self.session.context]

    def logits(self, *states: Tensor, places: Tensor | None = None) -> Tensor:
        """[B, n, V] of what follows hidden states [B, n, D] of each context; -inf for what is not allowed.
        `places` [B, n]: where in the streams it would stand (default: one after the other)."""
        every, *blind = [self.session.model.text_logits(found) for found in states]
        allowed = self.allowed
        if self.guide is not None:
            allowed = allowed & self.guide.mask(every.shape[1], every.shape[2]).to(allowed.device)
            if not allowed.any(dim=1).all():
                raise ValueError("the grammar allows only ids that may not come: text, end or write")
        seen = every.masked_fill(~allowed[:, None], float("-inf"))
        if self.session.recorded:
            self.kept = kept_share(seen, every)
        logits = seen
        if self.contrast is not None:
            numbers = (self.places(seen.shape[1]) if places is None else places) - self.first + 1
            logits = self.contrast.mixed(seen, blind[0], numbers)
        check_logits(logits)
        return logits

    def scores(self, drawn: Drawn) -> list[float]:
        """Log-probabilities of ids [B, 1] drawn from the latest logits (`Session.log_probs`); NaN if not
        recorded."""
        rows = len(self.session.rows)
        return (drawn.log_probs + self.kept)[:, 0].tolist() if self.session.recorded else [math.nan] * rows

    def places(self, count: int = 1) -> Tensor:
        """[B, count]: where in the streams the next ids will stand, which index the noise."""
        return torch.tensor([[row.place] for row in self.session.rows]) + torch.arange(count)


def allowed_ids(session: Session, draw: bool | Sequence[bool], end: bool | Sequence[bool]) -> Tensor:
    """[B, rows of the text head] bool: ids that may come next: text, `part` and, where the flags say so,
    `write` and `end`."""
    words = session.vocabulary
    allowed = torch.zeros(len(session.rows), words.table_size, dtype=torch.bool, device=session.model.device)
    allowed[:, : words.text] = True
    inside = [token for token in words.placeholders if token < words.text]  # of a pretrained tokenizer
    allowed[:, [*words.named_ids, *inside]] = False
    allowed[:, words.part] = True
    for what, token, flags in (("draw", words.write, draw), ("end", words.end, end)):
        if not isinstance(flags, bool) and len(flags) != len(session.rows):
            raise ValueError(f"{what} needs one flag for each of {len(session.rows)} rows, got {len(flags)}")
        allowed[:, token] = torch.as_tensor(flags, device=allowed.device)
    return allowed
