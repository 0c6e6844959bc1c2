"""Reference images: the latest image of a conversation, and the action ids since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unified.finite import check_number
from unified.layout.layout import WriteGroup
from unified.orders.shapes import Shape, area


class Image(NamedTuple):
    """The latest image of a conversation: size and codes of its last map, counted from 0, and carried
    embeddings [R, D], which stand in for those of the codes."""

    shape: Shape
    codes: Sequence[int]
    vectors: Tensor | None = None


@dataclass(frozen=True)
class ActionContrast:
    """Contrastive guidance of carried embeddings: `weight` times the difference between the reference image
    after the conversation's own actions and after these action ids [B][n] is added to them."""

    actions: Sequence[Sequence[int]]
    weight: float

    def __post_init__(self) -> None:
        check_number("the weight of a contrast", self.weight)


@dataclass(frozen=True)
class References:
    """Of N images to be written that share a plan: `images` [N, R, D], embeddings of their reference images'
    codes, zero without one, all of the size `shape` (R = height * width); `actions` [N, D], the sum of the
    embeddings of the action ids since; `has_actions` [N] bool, whether there are any. For extras that read
    words: `words` [N, D], the sum of the embeddings of what the turn says since then, and `shown` [N] bool,
    whether there is a reference image."""

    images: Tensor
    shape: Shape
    actions: Tensor
    has_actions: Tensor
    words: Tensor | None = None
    shown: Tensor | None = None

    @staticmethod
    def of(codes: Tensor, others: Tensor, group: WriteGroup, *, words: bool = False) -> References:
        """Those of a group of a batch. codes and others [B, T, D]: embeddings of all ids as codes and as
        others. `words`: whether those are asked for."""
        shape, rows = group.plan.shapes[-1], group.rows[:, None]
        cells = torch.arange(area([shape]), device=codes.device)
        images = codes[rows, group.reference.clamp(min=0)[:, None] + cells]
        shown = group.reference >= 0
        return References(
            images * shown[:, None, None],
            shape,
            _summed(others, rows, group.actions),
            (group.actions >= 0).any(dim=1),
            _summed(others, rows, group.words) if words else None,
            shown,
        )

    @staticmethod
    def none(codes: Tensor) -> References:
        """Of no images: codes [B, T, D] give type and device."""
        empty = codes[:0, 0]
        nothing = empty.new_zeros(0, dtype=torch.bool)
        return References(empty[:, None], (1, 1), empty, nothing, empty, nothing)


def _summed(embeddings: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """Sums [N, D] of embeddings [B, T, D] at `places` [N, A] of `rows` [N, 1]; places of -1 count nothing."""
    found = embeddings[rows, places.clamp(min=0)]  # [N, A, D]
    return (found * (places >= 0)[..., None]).sum(dim=1)


def rescaled(images: Tensor, like: Tensor) -> Tensor:
    """RMSNorm rescaling: images [N, R, D], every place brought to the root mean square of its image in `like`
    [N, R, D]. Embeddings that are carried from frame to frame so keep their length."""
    length = like.float().pow(2).mean(dim=(-2, -1), keepdim=True).sqrt()
    normed = nn.functional.rms_norm(images.float(), images.shape[-1:])
    return (normed * length).to(images.dtype)
