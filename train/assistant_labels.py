"""Batches for loops of others, such as `transformers.Trainer`: ids with labels at what the assistant says
alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unified.layout.layout import Layout
from unified.stream.vocabulary import Vocabulary


def assistant_labels(ids: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Labels [B, T] of ids [B, T]: the ids of the assistant's text, actions and drawn codes, -100 elsewhere.
    With labels that are the ids themselves, as is usual with transformers, what the user says is learned
    too."""
    return Layout.of(ids, vocabulary).labels(ids)


class AssistantCollator:
    """Rows with `input_ids` (or `ids`, as `unified.tasks build` writes them) of one sample each ->
    `input_ids` and `labels` [B, T], filled up with <|pad|>."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        samples = [torch.as_tensor(row["input_ids"] if "input_ids" in row else row["ids"]) for row in rows]
        ids = pad_sequence(samples, batch_first=True, padding_value=self.vocabulary.pad)
        return {"input_ids": ids, "labels": assistant_labels(ids, self.vocabulary)}
