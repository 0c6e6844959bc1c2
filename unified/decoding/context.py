"""The context of a session's rows: their KV cache, their layout cursors, and passes that append to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from unified.backbone.attention import Attend
from unified.backbone.layer_pass import LayerPart, Pass
from unified.cache.kv_cache import KVCache
from unified.cache.policy import CachePolicy, Held
from unified.heads.distribution import first_rows
from unified.layout.attention import PADDING, Ancestry, Index
from unified.layout.layout import Cursor, Layout
from unified.stream.vocabulary import Vocabulary


class Reads(Protocol):
    """What a context needs of a model."""

    vocabulary: Vocabulary
    attend: Attend

    @property
    def device(self) -> torch.device: ...

    @property
    def context_length(self) -> int | None:
        """The most positions that a row may hold; None for a model that reads no stream."""

    def steer(self, ids: Tensor, values: Mapping[str, Tensor] | None = None) -> Any:
        """The condition that ids [B, n], with `values` at placeholders, give the model besides keys and
        values (class-conditional models); None for none."""
        ...

    def read(self, ids: Tensor, layout: Layout, values: Mapping[str, Tensor] | None = None) -> Tensor | None:
        """Embeddings [B, P, D] of the positions of ids [B, n], with `values` at placeholders; None if the ids
        have no position."""
        ...

    def hidden(self, embeds: Tensor, run: Pass) -> list[Tensor]:
        """Embeddings [R, n, D] under a pass -> for each head, hidden states [R, n, D]."""
        ...


PREFILL = 1024  # positions of one pass: its mask has so many rows, whatever the length of the context


@dataclass(frozen=True)
class Chunk:
    """Positions for one pass: `embeds` [R, n, D], `index` [R, n] on the host, `positions` [3, R, n] (time,
    row, column). Row r has `counts[r]` of them, then padding."""

    embeds: Tensor
    index: Index
    positions: Tensor
    counts: np.ndarray

    @staticmethod
    def of(embeds: Tensor, index: Index, positions: Tensor) -> Chunk:
        """A chunk whose rows have padding at their ends only; `counts` are read off the index."""
        counts = (index.sample != PADDING).sum(dim=1).numpy()
        return Chunk(embeds, index, positions.to(embeds.device), counts)

    def then(self, after: Chunk) -> Chunk:
        """Concatenation: each row's positions, then those of `after`, without padding between them. Where
        the embeddings of one hold more (features for single layers behind them), the other's hold zeros."""
        width = max(self.embeds.shape[-1], after.embeds.shape[-1])
        pair = self.embeds, after.embeds.to(self.embeds.dtype)
        embeds = torch.cat([pad(x, (0, width - x.shape[-1])) for x in pair], dim=1)
        positions = torch.cat([self.positions, after.positions], dim=2)
        index, length = self.index.cat(after.index), self.embeds.shape[1]
        counts = self.counts + after.counts
        if (self.counts < length).any():
            places = np.arange(counts.max())
            source = np.where(places < self.counts[:, None], places, places - self.counts[:, None] + length)
            taken = torch.from_numpy(source.clip(max=embeds.shape[1] - 1))
            index = index.map(lambda field: field.gather(1, taken))
            index = Index(
                index.sample.masked_fill(torch.from_numpy(places >= counts[:, None]), PADDING),
                *index.fields()[1:],
            )
            taken = taken.to(embeds.device)
            embeds = embeds.gather(1, taken[..., None].expand(-1, -1, embeds.shape[-1]))
            positions = positions.gather(2, taken.expand(3, -1, -1))
        return Chunk(embeds, index, positions, counts)

    def pieces(self, most: int) -> Iterator[Chunk]:
        """The chunk cut into pieces of at most `most` positions, one step of a row never into two: larger
        pieces where a step is larger."""
        length, start = int(self.counts.max()), 0
        if length <= most:
            yield self
            return
        label, padding = self.index.label[:, :length], self.index.sample[:, :length] == PADDING
        between = ((label[:, 1:] > label[:, :-1]) | padding[:, 1:]).all(dim=0)
        cuts = [*(between.nonzero()[:, 0] + 1).tolist(), length]
        while start < length:
            fitting = [cut for cut in cuts if start < cut <= start + most]
            stop = fitting[-1] if fitting else next(cut for cut in cuts if cut > start)
            part = slice(start, stop)
            index = Index(*(field[:, part] for field in self.index.fields()))
            yield Chunk.of(self.embeds[:, part], index, self.positions[:, :, part])
            start = stop

    def states(self, hidden: Tensor, before: np.ndarray, count: int) -> Tensor:
        """[R, count, D] of hidden states [R, n, D]: those after each row's first `before` [R] positions;
        undefined in rows that have fewer."""
        if before.min() == before.max():
            return hidden[:, before[0] : before[0] + count]
        places = torch.from_numpy(before[:, None] + np.arange(count)).clamp(0, hidden.shape[1] - 1)
        return hidden.gather(1, places.to(hidden.device)[..., None].expand(-1, -1, hidden.shape[-1]))

    def queries(self, asked: Tensor, before: np.ndarray, count: int) -> Tensor:
        """[R, H, count, D] of queries [R, H, n, D]: those after each row's first `before` [R] positions."""
        by_place = asked.transpose(1, 2).flatten(2)
        return self.states(by_place, before, count).unflatten(2, (asked.shape[1], -1)).transpose(1, 2)


class Context:
    """`size` rows that run together and, once opened, their null branch as `size` more rows. `cursors`: the
    layout cursor of each row. `conditions`: for each branch, what the model is conditioned on besides keys
    and values (class-conditional models: all that depends on the class). `last`: for each branch and head,
    the states [size, D] after what its rows have read."""

    def __init__(self, cache: KVCache, size: int) -> None:
        self.cache, self.size = cache, size
        self.cursors = [Cursor()] * size
        self.conditions: list[Any] = [None]
        self.last: list[list[Tensor]] = [[]]

    @property
    def branches(self) -> int:
        return len(self.conditions)

    def rows(self, first: int = 0, count: int = 1) -> slice:
        """The rows of `count` branches from branch `first` on."""
        return slice(first * self.size, (first + count) * self.size)

    def open_null(self) -> None:
        """Add the null branch with empty rows, if it is not there."""
        if self.branches == 1:
            missing = 2 * self.size - self.cache.rows
            if missing > 0:
                self.cache.add_rows(missing)
            self.cursors = [*self.cursors, *[Cursor()] * self.size]
            self.conditions.append(None)
            self.last.append([])

    def restart(self, row: int) -> None:
        """Forget what one row has read, in every branch."""
        lengths = self.cache.lengths
        for number in range(row, self.branches * self.size, self.size):
            lengths[number], self.cursors[number] = 0, Cursor()
        self.cache.truncate(lengths)

    def condition(self, rows: slice, members: slice = slice(None)) -> Any:
        """The condition of some rows, stacked over their branches, for all conversations or some."""
        chosen = self.conditions[rows.start // self.size : rows.stop // self.size]
        if members != slice(None):
            chosen = [first_rows(one, members.start, members.stop) for one in chosen]
        if len(chosen) == 1 or chosen[0] is None:
            return chosen[0]
        return chosen[0].stack(chosen[1])

    def note(self, chunk: Chunk, hidden: Sequence[Tensor], counts: np.ndarray, branch: int = 0) -> None:
        """Remember the states, of each head's `hidden` [size, n, D], after the first `counts` [size]
        positions of a chunk that a branch has read. Rows that have read none keep theirs."""
        new = [chunk.states(states, counts - 1, 1)[:, 0] for states in hidden]
        if self.last[branch]:
            fresh = torch.from_numpy(counts > 0).to(new[0].device)[:, None]
            new = [torch.where(fresh, *pair) for pair in zip(new, self.last[branch], strict=True)]
        self.last[branch] = new

    def latest(self, rows: slice) -> list[Tensor] | None:
        """For each head, the states [r, D] after what some rows have read; None if they have read nothing."""
        chosen = self.last[rows.start // self.size : rows.stop // self.size]
        if not all(chosen):
            return None
        return [torch.cat(branches) for branches in zip(*chosen, strict=True)]

    @property
    def index(self) -> Index:
        """[R, K]: the entries of the first layer."""
        return self.cache.entries[0].index()

    def chunk(
        self,
        model: Reads,
        lists: Sequence[Sequence[int]],
        rows: slice,
        values: Mapping[str, Tensor] | None = None,
    ) -> tuple[Chunk | None, list[Cursor]]:
        """One list of ids for each of some rows -> the positions to run, and the cursors after them. None for
        ids that only set the condition or are marks (`stream.base_words`)."""
        words, cursors = model.vocabulary, self.cursors[rows]
        if words.marks:
            lists = [[token for token in ids if token not in words.marks] for ids in lists]
            if not any(lists):
                return None, cursors
        width = max(map(len, lists))
        padded = torch.tensor([[*ids, *[words.pad] * (width - len(ids))] for ids in lists])
        usual = width == 1 and not hasattr(model, "lay_out")
        if usual and all(not ids or _is_text(ids[0], words) for ids in lists):
            layout = Layout.tokens(cursors, [len(ids) > 0 for ids in lists])
        else:
            layout = lay_out(model, padded, cursors, values)
        ids = padded.to(model.device)
        condition = model.steer(ids, values)
        if condition is not None:
            self.conditions[rows.start // self.size] = condition
        embeds = model.read(ids, layout.to(model.device), values)
        chunk = None if embeds is None else Chunk.of(embeds, *layout.merged())
        return chunk, list(layout.cursors)

    def run(
        self, model: Reads, chunk: Chunk, rows: slice, tree: Ancestry | None = None, **told: Any
    ) -> list[Tensor]:
        """Run a chunk after the entries of some rows and commit its keys and values: for each head, hidden
        states [r, n, D]. `tree`: of which tree its positions are nodes; `told`: further fields of the `Pass`.
        A pass that raises leaves the cache as it was."""
        append = self.cache.append(chunk.index, chunk.counts, rows, tree=tree)
        run = Pass(
            chunk.index,
            chunk.positions,
            append=append,
            attend=model.attend,
            condition=self.condition(rows),
            **told,
        )
        hidden = model.hidden(chunk.embeds, run)
        append.commit()
        return hidden

    def read(
        self,
        model: Reads,
        lists: Sequence[Sequence[int]],
        branch: int = 0,
        values: Mapping[str, Tensor] | None = None,
        parts: Sequence[LayerPart] = (),
    ) -> bool:
        """Prefill one list of ids for each row of a branch, `PREFILL` positions in a pass, and remember the
        states after them. False for ids that have no positions. If a pass raises, cache and cursors are as
        before."""
        rows = self.rows(branch)
        chunk, cursors = self.chunk(model, lists, rows, values)
        lengths, last = self.cache.lengths_by_layer, self.last[branch]
        try:
            for piece in () if chunk is None else chunk.pieces(PREFILL):
                self.note(piece, self.run(model, piece, rows, parts=parts), piece.counts, branch)
        except BaseException:
            self.cache.truncate(lengths)
            self.last[branch] = last
            raise
        self.cursors[rows] = cursors
        return chunk is not None

    def forget(self, policy: CachePolicy, coming: Chunk | None = None, rows: slice = slice(None)) -> None:
        """Drop the entries that the cache policy does not keep. `coming`: positions that some rows run next,
        shown to the policy and kept."""
        for entries in self.cache.distinct():
            lengths = entries.lengths.copy()
            if coming is not None:
                entries.write(coming.index, coming.counts, rows)
                lengths[rows] += coming.counts
            layers = self.cache.layers_of(entries)
            held = Held(entries.index(lengths=lengths), lengths, layers[0], len(self.cache.stores))
            stays = policy.stays(held)
            if stays is not None:
                self.cache.keep(layers, stays[:, : int(entries.lengths.max(initial=0))])


def lay_out(
    model: Reads, ids: Tensor, cursors: Sequence[Cursor], values: Mapping[str, Tensor] | None = None
) -> Layout:
    """The layout of ids [B, n] on the CPU, with `values` at placeholders: that of the stream, or of a model
    whose sequence is another (`lay_out`). A layout in which codes that are written are of another kind than
    WRITE keeps their entries."""
    own = getattr(model, "lay_out", None)
    words = model.vocabulary
    found: Layout = Layout.of(ids, words, cursors, values) if own is None else own(ids, cursors, values)
    return found


def _is_text(token: int, words: Vocabulary) -> bool:
    """Whether an id by itself is a segment of text or of a turn's frame."""
    return words.is_text(token) or token in (words.part, words.end, words.system, words.user, words.assistant)
