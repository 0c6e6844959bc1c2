"""A draft of text by a smaller model of the same text tokenizer, with a KV cache of its own.

Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318. About images the smaller model may know
less: it reads those written in codes if it has the same codes, and passes over features of another model's
vision tower; a draft that sees no image is often good enough (Gagrani et al., "On speculative decoding for
multimodal large language models", arXiv 2404.08856). What is said follows the large model's law whatever the
draft knows.
Tests: tests/unified/decoding/test_smaller_model.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from unified.decoding.context import Chunk, Context
from unified.decoding.rows import readable
from unified.decoding.strategies.drafts import token_chunk
from unified.decoding.strategies.rollback import Mark
from unified.decoding.strategies.tree_guesses import Level
from unified.orders import Plan
from unified.stream.vocabulary import Vocabulary

if TYPE_CHECKING:
    from unified.decoding.session import Session


@dataclass(eq=False)
class SmallerModel:
    """Draft of text by `model`, whose text tokenizer must be that of the session's model: special ids are
    matched by name, other ids stand for themselves. It follows each session by itself."""

    model: Any
    _followers: WeakKeyDictionary[Session, Follower] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False
    )

    def text(self, session: Session, drafted: Sequence[Sequence[int]]) -> Tensor | None:
        """`Draft.text`. It guesses nothing where the conversation is longer than its context."""
        follower = self._follower(session)
        if not (follower.go_on(drafted) if any(drafted) else follower.catch_up(session)):
            return None
        session.stats.draft_passes += 1
        return follower.logits().to(session.model.device)

    def text_tree(self, session: Session, level: Level) -> Tensor | None:
        """`TreeDraft.text_tree`, under the same condition."""
        follower = self._follower(session)
        if not level.depth:
            found = follower.logits() if follower.catch_up(session) else None
            found = None if found is None else found[:, None]
        else:
            states = follower.grow(level)
            found = None if states is None else follower.logits(level.by_node(states))
        session.stats.draft_passes += found is not None
        return None if found is None else found.to(session.model.device)

    def _follower(self, session: Session) -> Follower:
        if session not in self._followers:
            self._followers[session] = Follower(self.model, session)
        return self._followers[session]

    def image(self, session: Session, chunk: Chunk, rows: slice, plan: Plan, step: int) -> None:
        """It guesses no images."""

    image_tree = image


class Follower:
    """What a smaller model has read of the rows of one session: of each row's stream so many ids (`read`).
    `states` [B, D]: after them and what was drafted since."""

    def __init__(self, model: Any, session: Session) -> None:
        self.model, self.words = model, session.vocabulary
        self.rows, self.read = list(session.rows), [0] * len(session.rows)
        self.context = Context(model.new_cache(len(self.rows)), len(self.rows))
        self.ids, self.table = same_ids(self.words, model.vocabulary), same_rows(self.words, model.vocabulary)
        self.mark: Mark | None = None
        self.states = torch.empty(0)

    def catch_up(self, session: Session) -> bool:
        """Forget what was drafted and read what the rows have said and heard since. False where that is more
        than the model's context holds, or nothing."""
        if self.mark is not None:
            self.mark.restore()
            self.mark = None
        for number, row in enumerate(session.rows):
            if row is not self.rows[number]:  # restarted
                self.context.restart(number)
                self.rows[number], self.read[number] = row, 0
        new = [self._seen(row.stream[read:]) for row, read in zip(self.rows, self.read, strict=True)]
        if not self._fits(max(map(len, new))):
            return False
        if any(new):
            self.context.read(self.model, new)
        self.read = [len(row.stream) for row in self.rows]
        if not self.context.last[0]:
            return False
        self.mark, self.states = Mark(self.context), self.context.last[0][0]
        return True

    def go_on(self, drafted: Sequence[Sequence[int]]) -> bool:
        """Read what was drafted last. False where there is no room for it."""
        count = max(map(len, drafted))
        if not self._fits(1):
            return False
        new = [[self.ids.get(token, token) for token in ids[count - 1 : count]] for ids in drafted]
        chunk, cursors = token_chunk(self.context, self.model, new)
        rows = self.context.rows()
        hidden = self.context.run(self.model, chunk, rows)[0]
        self.context.cursors[rows] = cursors
        fresh = torch.from_numpy(chunk.counts > 0).to(hidden.device)[:, None]
        self.states = torch.where(fresh, chunk.states(hidden, chunk.counts - 1, 1)[:, 0], self.states)
        return True

    def grow(self, level: Level) -> Tensor | None:
        """[B, n, D]: states of the nodes of a level of a draft tree. None where there is no room for them."""
        if not self._fits(max(map(len, level.present))):
            return None
        chunk, tree = level.chunk(self.context, self.model, self.ids)
        return self.context.run(self.model, chunk, self.context.rows(), tree)[0]

    def logits(self, states: Tensor | None = None) -> Tensor:
        """[B, ..., V] after what was read, or of states [B, ..., D], in the rows of the session's model; -inf
        for ids that it alone has."""
        found: Tensor = self.model.text_logits(self.states if states is None else states)
        table = self.table.to(found.device)
        return found[..., table.clamp(min=0)].masked_fill(table < 0, float("-inf"))

    def _fits(self, count: int) -> bool:
        """Whether so many ids more have room."""
        most = self.model.context_length
        return most is None or int(self.context.cache.lengths.max()) + count <= most

    def _seen(self, ids: list[int]) -> list[int]:
        """Of the latest ids of a stream, what the model can read, in its own ids."""
        words = self.words
        coded = words == self.model.vocabulary and not words.placeholders.keys() & set(ids)
        return [self.ids.get(token, token) for token in readable(ids, words, coded)]


def same_ids(model: Vocabulary, draft: Vocabulary) -> dict[int, int]:
    """Special ids of a model -> those of a draft that have another number there."""
    pairs = (
        (model.special[name], draft.special[name]) for name in model.special.keys() & draft.special.keys()
    )
    return {one: other for one, other in pairs if one != other}


def same_rows(model: Vocabulary, draft: Vocabulary) -> Tensor:
    """[V]: for each row of a model's text head, that of a draft's which says the same, -1 for none."""
    found = torch.full((model.table_size,), -1)
    text = min(model.text, draft.text)
    found[:text] = torch.arange(text)
    if model.action == draft.action:
        first, own = model.action_start - model.visual, draft.action_start - draft.visual
        found[first : first + model.action] = torch.arange(own, own + draft.action)
    for name, token in model.special.items():
        row = int(model.table_rows(torch.tensor(token)))
        other = draft.special.get(name)
        other_row = -1 if other is None else int(draft.table_rows(torch.tensor(other)))
        if row < len(found):
            found[row] = other_row if other_row < draft.table_size else -1
    return found
