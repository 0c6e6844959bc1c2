"""The layout of a batch: everything that follows from the ids alone.

Nothing outside this module computes an offset by hand: who sees whom (`index`), where a position is
(`positions`), what a WRITE slot is fed (`writes`), which positions are predicted and from where (`predicted`,
`source`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unified.layout.attention import PADDING, Index
from unified.layout.features import split_places
from unified.layout.patch_merging import MergedLayout
from unified.layout.row import Cursor, RowLayout
from unified.orders import Plan
from unified.stream.segments import as_ids
from unified.stream.vocabulary import Vocabulary

IGNORED = -100  # the label of a position that is not a target, as in `transformers`


@dataclass(frozen=True)
class WriteGroup:
    """WRITE segments that share a plan: segment n fills slots `starts[n]`, `starts[n]` + 1, ... of row
    `rows[n]`. `reference[n]`: where the last map of its reference image begins, which is the latest image of
    its sample, if that has the size of the plan's last map; otherwise -1. `actions[n]`: the places of the
    action ids since that image, `words[n]` those of the text that its turn says since then, padded with
    -1."""

    plan: Plan
    rows: Tensor
    starts: Tensor
    reference: Tensor
    actions: Tensor
    words: Tensor

    def to(self, device: torch.device | str) -> WriteGroup:
        fields = (self.rows, self.starts, self.reference, self.actions, self.words)
        return WriteGroup(self.plan, *(field.to(device) for field in fields))

    def slots(self) -> Tensor:
        """[N, T] positions of the slots."""
        return self.starts[:, None] + torch.arange(self.plan.length, device=self.starts.device)


@dataclass(frozen=True, repr=False)
class Layout:
    """`positions` [3, B, T] float: time, row, column, for multimodal rotary embeddings (M-RoPE, arXiv
    2409.12191). `source` [B, T]: the position whose hidden state predicts a token (the one before; for WRITE
    codes their own). `predicted` [B, T] bool: tokens that may be targets at all. `answers` [B, T] bool: the
    predicted tokens of assistant turns. `step` [B, T]: the step of a WRITE code in its plan, -1 elsewhere.
    `cursors`: where each row stands after its last id. `merging`: the positions of the backbone, if not one
    for each id."""

    index: Index
    positions: Tensor
    source: Tensor
    predicted: Tensor
    answers: Tensor
    step: Tensor
    writes: tuple[WriteGroup, ...]
    cursors: tuple[Cursor, ...] = field(default=())
    merging: MergedLayout | None = None

    def __repr__(self) -> str:
        rows, length = self.source.shape
        images = sum(len(group.rows) for group in self.writes)
        positions = length if self.merging is None else self.merging.kept.shape[1]
        return f"Layout({rows} x {length} ids at {positions} positions, {images} written images)"

    @staticmethod
    def of(
        ids: Tensor | Sequence[Sequence[int]],
        vocabulary: Vocabulary,
        cursors: Sequence[Cursor] | None = None,
        values: Mapping[str, Tensor] | None = None,
    ) -> Layout:
        """Layout of rows of ids [B, T]. Given cursors, the rows go on where an earlier layout ended.
        `values`: what stands at placeholders; PLACES of them [N, 5], row by row, say where the features of a
        vision tower stand (`layout.features`)."""
        table = as_ids(ids, 2)
        cursors = cursors or [Cursor()] * len(table)
        found = zip(table, cursors, split_places(table, vocabulary, values), strict=True)
        rows = [RowLayout(row, vocabulary, cursor, places) for row, cursor, places in found]
        device = ids.device if isinstance(ids, Tensor) else torch.device("cpu")
        return _stack(rows).to(device)

    @staticmethod
    def tokens(cursors: Sequence[Cursor], counts: Sequence[int]) -> Layout:
        """Layout [B, n] of `counts[b]` more ids of text in row b, each a segment as if it came alone, and
        padding up to the largest count (at least 1), without a walk over the ids."""
        ahead = torch.arange(max(1, *counts))
        rows = torch.tensor([(c.sample, c.segment, c.label) for c in cursors])
        sample, segment, label = rows.T.contiguous()[..., None]
        sample = torch.where(ahead < torch.tensor(counts)[:, None], sample, PADDING)
        segment, label = segment + ahead, label + ahead
        zero, no = torch.zeros_like(label), torch.zeros(label.shape, dtype=torch.bool)
        places = (torch.tensor([c.position for c in cursors])[:, None] + ahead).expand(3, -1, -1)
        after = [
            Cursor(c.label + n, c.position + n, c.segment + n, c.sample)
            for c, n in zip(cursors, counts, strict=True)
        ]
        return Layout(
            index=Index(sample, segment, zero, label),
            positions=places,
            source=zero,
            predicted=no,
            answers=no,
            step=zero - 1,
            writes=(),
            cursors=tuple(after),
        )

    def to(self, device: torch.device | str) -> Layout:
        writes = tuple(g.to(device) for g in self.writes)
        names = ("positions", "source", "predicted", "answers", "step")
        tensors = {name: getattr(self, name).to(device) for name in names}
        merging = self.merging.to(device) if self.merging else None
        return replace(self, index=self.index.to(device), writes=writes, merging=merging, **tensors)

    def labels(self, ids: Tensor) -> Tensor:
        """The target rule: ids of the assistant's text, actions and WRITE codes, IGNORED elsewhere."""
        return ids.masked_fill(~self.answers, IGNORED)

    def merged(self) -> tuple[Index, Tensor]:
        """Index [B, P] and positions [3, B, P] of what the backbone runs over."""
        if self.merging is None:
            return self.index, self.positions
        return self.merging.index(self.index), self.merging.positions(self.positions)

    def at_positions(self, values: Tensor) -> Tensor:
        """Values of ids [B, T] -> of the backbone's positions [B, P]."""
        return values if self.merging is None else values.gather(1, self.merging.kept)

    def part(self, places: slice | Tensor) -> Layout:
        """The layout of some of the ids, to be run on their own, a position each, after what came before."""
        return replace(
            self,
            index=self.index.map(lambda field: field[:, places]),
            positions=self.positions[:, :, places],
            source=self.source[:, places],
            predicted=self.predicted[:, places],
            answers=self.answers[:, places],
            step=self.step[:, places],
            writes=(),
            merging=None,
        )


def _stack(rows: list[RowLayout]) -> Layout:
    def stacked(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(row, name) for row in rows]))

    index = Index(*(stacked(name) for name in ("sample", "segment", "kind", "label")))
    merging = None
    if rows[0].vocabulary.merge:
        first = np.stack([row.first for row in rows])
        merging = MergedLayout.of(first, [np.concatenate(row.blocks) for row in rows])
    return Layout(
        index=index,
        positions=stacked("position").transpose(0, 1).contiguous(),
        source=stacked("source"),
        predicted=stacked("predicted"),
        answers=stacked("answers"),
        step=stacked("step"),
        writes=_groups(rows),
        cursors=tuple(row.cursor for row in rows),
        merging=merging,
    )


def _groups(rows: list[RowLayout]) -> tuple[WriteGroup, ...]:
    plans: dict[int, Plan] = {}
    places: dict[int, list[tuple[int, int, int]]] = {}
    actions: dict[int, list[list[int]]] = {}
    words: dict[int, list[list[int]]] = {}
    for number, row in enumerate(rows):
        for segment, plan, reference, acted, said in row.writes:
            plans[id(plan)] = plan
            places.setdefault(id(plan), []).append((number, segment.codes, reference))
            actions.setdefault(id(plan), []).append(acted)
            words.setdefault(id(plan), []).append(said)
    groups = []
    for key, plan in plans.items():
        numbers, starts, references = torch.tensor(places[key]).unbind(dim=1)
        since = (_padded(actions[key]), _padded(words[key]))
        groups.append(WriteGroup(plan, numbers, starts, references, *since))
    return tuple(groups)


def _padded(lists: Sequence[Sequence[int]]) -> Tensor:
    """[N, longest], padded with -1."""
    rows = [torch.tensor(list(row), dtype=torch.long) for row in lists]
    return pad_sequence(rows, batch_first=True, padding_value=-1)


def pack(samples: Sequence[Sequence[int]], length: int, vocabulary: Vocabulary) -> Tensor:
    """Samples laid one after another into rows of `length` ids, first fit, longest first, padded at the end:
    [B, length]. No sample sees another. A sample longer than a row raises ValueError."""
    rows: list[list[int]] = []
    for sample in sorted(samples, key=len, reverse=True):
        if len(sample) > length:
            raise ValueError(f"a sample of {len(sample)} ids does not fit a row of {length}")
        if not len(sample) or sample[0] != vocabulary.begin:
            raise ValueError("every packed sample must start with <|begin|>")
        row = next((row for row in rows if len(row) + len(sample) <= length), None)
        if row is None:
            rows.append(row := [])
        row.extend(sample)
    padded = [row + [vocabulary.pad] * (length - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.long).view(-1, length)
