"""Rows of ids that adapters are trained on, one image each, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.backbone.layer_pass import LayerPart
from unified.core_model import CoreModel
from unified.layout.layout import IGNORED, Layout
from unified.objectives.scores import Scores
from unified.orders import Plan
from unified.stream.processor import Processor


@dataclass(frozen=True, eq=False)
class Rows:
    """Ids [B, T], padded, of B conversations with one written image each, all of one plan."""

    ids: Tensor
    layout: Layout

    @staticmethod
    def of(lists: Sequence[Sequence[int]], model: CoreModel) -> Rows:
        """ValueError for images of different sizes."""
        width, pad = max(map(len, lists)), model.vocabulary.pad
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in lists]).to(model.device)
        layout = Layout.of(ids, model.vocabulary)
        if len(layout.writes) != 1 or len(layout.writes[0].rows) != len(lists):
            raise ValueError("each row of a batch needs one image, all of one size")
        return Rows(ids, layout)

    @property
    def plan(self) -> Plan:
        return self.layout.writes[0].plan


def row_of(processor: Processor, words: str, picture: np.ndarray) -> list[int]:
    """Ids of a request and of the picture uint8 [H, W, 3] as the answer."""
    said = {"role": "user", "content": words}
    image: Any = {"type": "image", "image": picture}
    return processor.encode([said, {"role": "assistant", "content": [image]}])


def scores(model: CoreModel, rows: Rows, parts: Sequence[LayerPart] = (), first: int = 0) -> Scores:
    """Scores of the codes of steps from `first` on; their weights add up to 1 in each row, so that losses
    are nats a code."""
    labels = rows.ids.masked_fill(rows.layout.step < first, IGNORED)
    output = model(rows.ids, labels=labels, layout=rows.layout, parts=parts, return_logits=False)
    counts = (labels != IGNORED).sum(dim=1, keepdim=True).clamp(min=1)
    return Scores.of(output, rows.layout, labels, (labels != IGNORED) / counts)
