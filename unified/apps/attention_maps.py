"""Attention maps: how much each token of an answer attends to each place of an image, per layer and head.

One teacher-forced pass over the question and the answer, in which every layer's softmax is computed in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unified.backbone.layer_pass import Pass
from unified.core_model import CoreModel
from unified.layout.attention import Seen, attends
from unified.layout.layout import Layout
from unified.stream.segments import Kind, segments


@dataclass(frozen=True)
class AttentionMaps:
    """`weights` [layers, heads, tokens, h, w] float32: how much the position that predicts a token attends
    to the places of the image's last map; they sum to at most 1, the rest goes to other positions. Places are
    positions of the backbone: 2 x 2 codes each where it merges them. `tokens`: the text of each token.
    `answer`: all of it."""

    weights: np.ndarray
    tokens: list[str]
    answer: str

    def mean(self) -> np.ndarray:
        """[tokens, h, w]: the mean over layers and heads."""
        found: np.ndarray = self.weights.mean(axis=(0, 1))
        return found


@torch.no_grad()
def attention_weights(model: CoreModel, ids: Sequence[int]) -> Tensor:
    """[layers, heads, P, P] float32 of one row of ids: the attention of every position of the backbone to
    every other, in a pass over them all."""
    rows = torch.tensor([list(ids)], device=model.device)
    layout = Layout.of(rows, model.vocabulary)
    index, positions = layout.merged()
    found: list[Tensor] = []

    def attend(query: Tensor, key: Tensor, value: Tensor, seen: Seen, scale: float) -> Tensor:
        weights = softmax_weights(query, key, seen, scale)
        found.append(weights[0].cpu())
        value = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
        return (weights.to(value.dtype) @ value).transpose(1, 2)

    inputs = model.merging.merge(model.embed(rows, layout), layout.merging)
    model.hidden(inputs, Pass(index, positions, seen=Seen(attends(index, index)[:, None]), attend=attend))
    return torch.stack(found)


def softmax_weights(query: Tensor, key: Tensor, seen: Seen, scale: float) -> Tensor:
    """query [R, H, n, D], key [R, G, m, D] -> softmax of the scores [R, H, n, m], float32."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query.float() @ key.float().transpose(2, 3) * scale
    if seen.mask is not None:
        scores = scores.masked_fill(~seen.mask, -torch.inf)
    return scores.softmax(dim=-1)


def image_attention(model: CoreModel, ids: Sequence[int], start: int) -> Tensor:
    """[layers, heads, tokens, h, w] of ids whose tokens from `start` on are an answer, to the last map of the
    first READ image. ValueError for ids without one."""
    layout = Layout.of(torch.tensor([list(ids)]), model.vocabulary)
    parts = segments(ids, model.vocabulary)
    read = next((part for part in parts if part.kind == Kind.READ and part.is_image), None)
    if read is None:
        raise ValueError("there is no image to attend to: give one")
    height, width = read.shapes[-1]
    place = layout.merging.position[0] if layout.merging else torch.arange(len(ids))
    last = place[read.codes + sum(h * w for h, w in read.shapes[:-1]) :][: height * width].unique()
    merged = 1 if len(last) == height * width else 2
    weights = attention_weights(model, ids)
    queries = place[layout.source[0, start:]]
    maps = weights[:, :, queries][..., last]
    return maps.unflatten(-1, (height // merged, width // merged))
