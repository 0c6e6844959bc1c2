"""Rounds of speculative sampling over text, row by row (`speculative.py` names their steps)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from unified.backbone.layer_pass import LayerPart
from unified.cache.policy import CachePolicy, Held
from unified.decoding.context import Context, Reads
from unified.decoding.strategies.drafts import Draft, token_chunk
from unified.decoding.strategies.rejection import DRAFT, draw, probabilities, verify
from unified.decoding.strategies.rollback import Mark
from unified.decoding.strategies.tree_guesses import Guesses, node_chunk
from unified.decoding.text import TextRun
from unified.layout.layout import Layout


class Branch:
    """The conversations of a context, reading text that may be taken back."""

    def __init__(self, context: Context, model: Reads, parts: Sequence[LayerPart] = ()) -> None:
        self.context, self.model, self.parts = context, model, parts

    def read(self, lists: Sequence[Sequence[int]]) -> Tensor:
        """[B, 1 + n, D]: the states before ids [B][n], and after each of them."""
        self.mark, self.states = Mark(self.context), [last[:, None] for last in self.context.last[0]]
        if any(lists):
            chunk, _ = token_chunk(self.context, self.model, lists)
            hidden = self.context.run(self.model, chunk, self.context.rows(), parts=self.parts)
            pairs = zip(self.states, hidden, strict=True)
            self.states = [torch.cat([before, after.to(before.dtype)], dim=1) for before, after in pairs]
        return self.states[0]

    def read_nodes(self, guesses: Guesses, nodes: Sequence[Sequence[int]], said: list[list[int]]) -> Tensor:
        """[B, 1 + n, D]: as `read`, of ids `said` [B][n] and, behind them, nodes of a draft tree [B][m]."""
        self.mark, self.states = Mark(self.context), [last[:, None] for last in self.context.last[0]]
        if any(said) or any(nodes):
            chunk, tree = node_chunk(self.context, self.model, guesses, nodes, said=said)
            hidden = self.context.run(self.model, chunk, self.context.rows(), tree, parts=self.parts)
            pairs = zip(self.states, hidden, strict=True)
            self.states = [torch.cat([before, after.to(before.dtype)], dim=1) for before, after in pairs]
        return self.states[0]

    def pick(self, picked: np.ndarray) -> None:
        """Of what was read in each row, put the ids of these numbers [B, k], ascending, in front."""
        whole = np.tile(np.arange(picked.shape[1]), (self.context.cache.rows, 1))
        whole[self.context.rows()] = picked
        self.context.cache.pick(self.mark.lengths, whole)
        rows, columns = torch.arange(len(picked))[:, None], torch.from_numpy(picked) + 1
        chosen = [states[rows, columns.clamp(max=states.shape[1] - 1)] for states in self.states]
        self.states = [
            torch.cat([states[:, :1], later], dim=1)
            for states, later in zip(self.states, chosen, strict=True)
        ]

    def keep(self, counts: np.ndarray) -> None:
        """Keep the first `counts` [B] ids of what was read in each row."""
        rows = self.context.rows()
        kept = np.zeros(self.context.cache.rows, dtype=np.int64)
        kept[rows] = counts
        self.mark.restore(kept)
        self.context.cursors[rows] = Layout.tokens(self.mark.cursors[rows], counts.tolist()).cursors
        chosen = torch.arange(len(counts)), torch.from_numpy(counts)
        self.context.last[0] = [states[chosen] for states in self.states]


class TextRounds:
    """`left` [B]: how many ids each row may still say."""

    def __init__(self, run: TextRun, draft: Draft, length: int) -> None:
        self.run, self.session, self.draft, self.length = run, run.session, draft, length
        session, parts = run.session, [run.session.parts, ()]
        self.branches = [
            Branch(context, session.model, given) for context, given in zip(run.contexts, parts, strict=False)
        ]
        self.left = np.full(len(session.rows), run.max_tokens)

    @property
    def open(self) -> bool:
        return self.run.max_tokens > 0 and not all(row.stopped for row in self.session.rows)

    @property
    def exhausted(self) -> bool:
        """Whether a row has said all it may, so that what it said last was not read."""
        return any(row.stopped == "length" and row.pending for row in self.session.rows)

    def round(self) -> Iterator[list[int | None]]:
        """Draft, verify, accept; say what was accepted, and roll back what was not said."""
        before = [list(row.pending) for row in self.session.rows]
        offset, mark = np.array([len(ids) for ids in before]), Mark(self.session.context)
        try:
            drafted, q = self._draft(self.room(offset))
            mark.restore()
            runs = [ids[:-1] if self.stops(ids) else ids for ids in drafted]  # nothing follows those left out
            read = [[*said, *ids] for said, ids in zip(before, runs, strict=True)]
            tokens = self._accept(drafted, q, self._verify(read, offset, q.shape[1]))
        except BaseException:
            mark.restore()
            raise
        yield from self.say(tokens, runs, offset)

    # Draft --------------------------------------------------------------------------------------------------

    def room(self, offset: np.ndarray) -> np.ndarray:
        """[B]: how many ids of each row to draft: one more is drawn from p, and a cache policy must not let
        go of anything before the last of those that are read, the `offset` [B] pending ones included."""
        wanted = np.minimum(self.length, self.left - 1) * [not row.stopped for row in self.session.rows]
        return np.minimum(wanted, np.maximum(self._steady(offset + wanted) - offset, 0))

    def _steady(self, counts: np.ndarray) -> np.ndarray:
        """[B]: how many of the next `counts` [B] ids can be read in one pass: those up to the first after
        which the policy lets go of something."""
        context, found = self.session.context, counts.copy()
        index = Layout.tokens(context.cursors[context.rows()], counts.tolist()).index
        for entries in context.cache.distinct():
            entries.write(index, counts, context.rows())
            layers = context.cache.layers_of(entries)
            for count in range(1, int(counts.max(initial=0))):
                lengths = entries.lengths.copy()
                lengths[context.rows()] += np.minimum(counts, count)
                held = Held(entries.index(lengths=lengths), lengths, layers[0], len(context.cache.stores))
                goes = _lets_go(self.session.policy, held)[context.rows()]
                found = np.where(goes & (found > count), count, found)
        return found

    def _draft(self, room: np.ndarray) -> tuple[list[list[int]], Tensor]:
        """Ids of every row, at most `room` [B], and the distributions q [B, k, V] they were drawn from."""
        session, run = self.session, self.run
        laws: list[Tensor] = []
        drafted: list[list[int]] = [[] for _ in room]
        places = run.places(max(int(room.max(initial=0)), 1))
        for count in range(int(room.max(initial=0))):
            logits = self.draft.text(session, drafted)
            if logits is None:
                break
            logits = logits.masked_fill(~run.allowed, float("-inf"))
            guessed = (logits > float("-inf")).any(dim=-1)
            going = [len(ids) == count and not self.stops(ids[-1:]) for ids in drafted]
            going_on = torch.from_numpy((room > count) & going).to(guessed.device) & guessed
            if not going_on.any():
                break
            laws.append(probabilities(run.sampler, logits.masked_fill(~going_on[:, None], 0.0)))
            drawn = draw(laws[-1][:, None, None], session.noise, places[:, count : count + 1], DRAFT)
            for ids, token, goes in zip(drafted, drawn.flatten().tolist(), going_on.tolist(), strict=True):
                ids += [token] * goes
        return drafted, torch.stack(laws, dim=1) if laws else torch.zeros(len(room), 0, 0)

    def stops(self, ids: Sequence[int]) -> bool:
        """Whether a row that says these ids last has stopped."""
        return len(ids) > 0 and ids[-1] in (self.session.vocabulary.write, self.session.vocabulary.end)

    # Verify and accept --------------------------------------------------------------------------------------

    def _verify(self, read: list[list[int]], offset: np.ndarray, count: int) -> Tensor:
        """[B, count + 1, V]: p of each drafted id and of one more, by one pass over ids [B][n], each row's
        first `offset` [B] of which were said before; without meaning past a row's own."""
        states = [branch.read(read) for branch in self.branches]
        self.session.stats.passes += any(map(len, read))
        places = torch.from_numpy(offset[:, None] + np.arange(count + 1)).clamp(max=states[0].shape[1] - 1)
        rows = torch.arange(len(read))[:, None]
        chosen = [found[rows, places.to(found.device)] for found in states]
        return probabilities(self.run.sampler, self.run.logits(*chosen))

    def _accept(self, drafted: list[list[int]], q: Tensor, p: Tensor) -> list[list[int]]:
        """The ids that every row says: those accepted, and one more unless the last of them ends the text."""
        session, count = self.session, q.shape[1]
        places, stats = self.run.places(count + 1), session.stats
        symbols = torch.zeros(len(drafted), count, dtype=torch.long, device=p.device)
        agreed = torch.zeros_like(symbols, dtype=torch.bool)
        if count:
            padded = torch.tensor([[*ids, *[0] * (count - len(ids))] for ids in drafted], device=p.device)
            verdict = verify(
                p[:, :count, None], q[:, :, None], padded[..., None], session.noise, places[:, :-1]
            )
            symbols, agreed = verdict.symbols[..., 0], verdict.accepted[..., 0]
        ends = torch.tensor([[len(ids)] for ids in drafted])
        rows = torch.arange(len(drafted))[:, None]
        more = draw(p[rows, ends][:, :, None], session.noise, places[rows, ends]).flatten()
        found = []
        for number, ids in enumerate(drafted):
            taken = 0
            while taken < len(ids) and agreed[number, taken]:
                taken += 1
            stats.drafted[number] += len(ids)
            stats.accepted[number] += taken
            after = symbols[number, taken] if taken < len(ids) else more[number]
            ended = taken == len(ids) and self.stops(ids)
            found.append([*ids[:taken], *([] if ended else [int(after)])])
        return found

    # Say and roll back --------------------------------------------------------------------------------------

    def say(
        self, tokens: list[list[int]], read: list[list[int]], offset: np.ndarray
    ) -> Iterator[list[int | None]]:
        """One id of each row after another; whatever is not said in the end is taken back. `read`: the
        drafted ids that were run, `offset` [B]: how many ids were run before them."""
        session = self.session
        said: list[list[int]] = [[] for _ in tokens]
        try:
            for number in range(max(map(len, tokens))):
                line = [
                    session.say(row, ids[number]) if number < len(ids) else None
                    for row, ids in zip(session.rows, tokens, strict=True)
                ]
                for ids, token in zip(said, line, strict=True):
                    ids += [] if token is None else [token]
                if any(token is not None for token in line):
                    yield line
        finally:
            self._roll_back(said, read, offset)
        session.context.forget(session.policy)

    def _roll_back(self, said: list[list[int]], read: list[list[int]], offset: np.ndarray) -> None:
        session = self.session
        same = np.array([_common(ids, new) for ids, new in zip(said, read, strict=True)])
        for branch in self.branches:
            branch.keep(offset + same)
        self.left -= [len(ids) for ids in said]
        for row, ids, count, left in zip(session.rows, said, same, self.left, strict=True):
            row.pending = ids[count:]
            row.stopped = row.stopped or ("length" if not left else "")


def _common(ids: list[int], others: list[int]) -> int:
    """How many first ids are the same."""
    pairs = zip(ids, others, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(ids), len(others)))


def _lets_go(policy: CachePolicy, held: Held) -> np.ndarray:
    """[R] bool: rows of which a policy drops an entry."""
    stays = policy.stays(held)
    if stays is None:
        return np.zeros(len(held.lengths), dtype=bool)
    goes: np.ndarray = np.any(~stays.reshape(*stays.shape[:2], -1), axis=2)  # in any head
    inside = np.arange(goes.shape[1]) < held.lengths[:, None]
    found: np.ndarray = np.any(goes & inside, axis=1)
    return found
