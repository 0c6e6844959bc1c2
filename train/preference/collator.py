"""Pairs of replies -> what TRL's `DPOTrainer` takes: chosen rows first, then the rejected ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from unified.train.preference.weighting import MAPS, Weighting, by_column, columns_of
from unified.train.rows import drawing_row

from unified.layout.layout import IGNORED, Layout
from unified.stream.segments import Kind, segments
from unified.stream.vocabulary import Vocabulary

MULTIPLE = 16  # rows are filled up to a multiple of so many ids: few lengths are compiled
SILENT = 32  # ids of the shortest batch that a silent row fits


class PairCollator:
    """Rows with `prompt_ids`, `chosen_ids`, `rejected_ids`, and perhaps the reference's sums by column
    `ref_chosen_logps`, `ref_rejected_logps` [C], as a batch of 2B rows of T ids:

    `input_ids`, `attention_mask`, `completion_mask` [2B, T] (1 at the targets of the reply), `weights` [2B,
    T] on their log-probabilities, `columns` [2B, T] (see `weighting`), `layout`, `ref_chosen_logps` and
    `ref_rejected_logps` [B], weighted. `everywhere`: a batch that draws nothing gets a silent row that does.
    Longer rows than `max_length` are cut at their end, outside images (`check_length`)."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        weighting: Weighting,
        *,
        width: int,
        everywhere: bool = False,
        max_length: int | None = None,
    ) -> None:
        self.vocabulary, self.weighting, self.width = vocabulary, weighting, width
        self.everywhere, self.max_length = everywhere, max_length

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        sides = ("chosen_ids", "rejected_ids")
        samples = [[*row["prompt_ids"], *row[side]][: self.max_length] for side in sides for row in rows]
        starts = torch.tensor([len(row["prompt_ids"]) for row in rows] * 2)
        ids = padded(samples, self.vocabulary, SILENT if self.everywhere else 1)
        silent = self._silent(ids)
        layout = Layout.of(ids if silent is None else torch.cat([ids, silent]), self.vocabulary)
        replies = torch.arange(ids.shape[1]) >= starts[:, None]
        targets = (layout.labels(_all(ids, silent))[: len(ids)] != IGNORED) & replies
        columns = columns_of(layout)[: len(ids)]
        weights = self.weighting.of(by_column(targets.float(), columns, self.width))
        batch: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": (ids != self.vocabulary.pad).long(),
            "completion_mask": targets.long(),
            "weights": weights.gather(1, columns) * targets,
            "columns": columns,
            "layout": layout,
        }
        batch |= {} if silent is None else {"silent": silent}
        if "ref_chosen_logps" in rows[0]:
            batch |= self._reference(rows, weights)
        return batch

    def _reference(self, rows: Sequence[Mapping[str, Any]], weights: Tensor) -> dict[str, Tensor]:
        """The reference's scores [B] from its sums by column."""
        names = ("ref_chosen_logps", "ref_rejected_logps")
        sums = {name: torch.tensor([row[name] for row in rows]) for name in names}
        return {
            name: (part * sums[name]).sum(dim=1) for name, part in zip(names, weights.chunk(2), strict=True)
        }

    def _silent(self, ids: Tensor) -> Tensor | None:
        if not self.everywhere or bool((ids == self.vocabulary.write).any()):
            return None
        return drawing_row(self.vocabulary, ids.shape[1])


def padded(samples: Sequence[Sequence[int]], vocabulary: Vocabulary, least: int = 1) -> Tensor:
    """Rows of ids [B, T], padded at the end; T is a multiple of `MULTIPLE`, at least `least`."""
    length = -(-max(least, *map(len, samples)) // MULTIPLE) * MULTIPLE
    return torch.tensor([[*sample, *[vocabulary.pad] * (length - len(sample))] for sample in samples])


def check_length(
    ids: Sequence[int], prompt: int, vocabulary: Vocabulary, longest: int | None, where: str
) -> None:
    """ValueError if cutting a row of ids, `prompt` of which are the prompt, after the `longest` first would
    cut an image, or leave nothing of the reply."""
    if longest is None or len(ids) <= longest:
        return
    if longest <= prompt:
        raise ValueError(f"{where}: max_length={longest} leaves nothing after a prompt of {prompt} ids")
    for part in segments(ids, vocabulary):
        if part.kind != Kind.TEXT and part.start < longest < part.stop:
            what = "an action" if part.kind == Kind.ACTION else "an image"
            raise ValueError(
                f"{where}: max_length={longest} cuts {what} at ids {part.start} to {part.stop - 1} of "
                f"{len(ids)}: raise it, or set it to None"
            )


def width_of(rows: Sequence[Sequence[int]], vocabulary: Vocabulary) -> int:
    """Columns that the images of these rows of ids need: text, actions and the most maps of any."""
    written = (s for ids in rows for s in segments(ids, vocabulary) if s.kind == Kind.WRITE)
    return MAPS + max((len(segment.shapes) for segment in written), default=0)


def _all(ids: Tensor, silent: Tensor | None) -> Tensor:
    return ids if silent is None else torch.cat([ids, silent])
