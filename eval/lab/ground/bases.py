"""The five base models: one decoder of one size, told what to draw in nine words, in five orders.

A row is `begin user CAPTION end assistant write HEADER codes close end`. The layout of rows depends on
nothing but their number, the order and the map sizes: it is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from unified.eval.lab.ground.scenes import CAPTION, WORDS
from unified.eval.lab.ground.tokenizers import SCHEDULE
from unified.eval.lab.sizes import ModelSize, Sizes

from unified.config import UnifiedConfig, text_decoder
from unified.layout.layout import IGNORED, Layout
from unified.model import UnifiedModel
from unified.orders.shapes import Shapes, area, as_shapes
from unified.stream.vocabulary import Vocabulary

ORDERS = ("next_scale", "residual", "raster", "diagonal", "nar", "masked", "nar(shared=True)")
SIDE = SCHEDULE[-1]
SQUARE = ((SIDE, SIDE),)
MOST_SIDE = 24
PERMUTATIONS = 16  # that the masked model learns


@dataclass(frozen=True, kw_only=True)
class Base:
    """`lists`: the lists of map sizes that a model is trained on, drawn evenly, the first counting half."""

    tokenizer: str
    order: str
    lists: tuple[tuple[int, ...], ...] = ((SIDE,),)
    head: str = "categorical"
    permuted: bool = False

    @property
    def shapes(self) -> Shapes:
        """The map sizes that it draws with."""
        return as_shapes(self.lists[0])


FREE = (SCHEDULE, (1, 2, 4, 8), (1, 2, 3, 5, 8), (1, 3, 5, 6, 8), (1, 2, 3, 4, 5, 6, 7, 8))
BASES = {
    "raster": Base(tokenizer="vq", order="raster"),
    "next_scale": Base(tokenizer="vq", order="next_scale", lists=FREE),
    "residual": Base(tokenizer="residual_vq", order="residual", lists=(SCHEDULE,)),
    "bitwise": Base(tokenizer="bsq", order="residual", lists=(SCHEDULE,), head="bitwise"),
    "masked": Base(tokenizer="vq", order="masked", permuted=True),
}


def vocabulary(codes: int, more: tuple[str, ...] = (), max_side: int = MOST_SIDE) -> Vocabulary:
    """Of all base models with so many codes; with `more` orders, that of models of an experiment alone."""
    orders = (*ORDERS, *more)
    return Vocabulary(text=len(WORDS), visual=codes, action=0, max_side=max_side, orders=orders, appended=())


def new_model(
    base: Base,
    sizes: Sizes,
    seed: int = 0,
    size: ModelSize | None = None,
    read_outs: int = 1,
    words: Vocabulary | None = None,
) -> UnifiedModel:
    """With random weights of this seed; `size` and `words` in place of the base models' own."""
    size, bits = size or sizes.model, base.tokenizer == "bsq"
    codes = 2**sizes.tokenizer.bits if bits else sizes.tokenizer.codes
    torch.manual_seed(seed)
    backbone = text_decoder(width=size.width, layers=size.layers, heads=size.heads, kv_heads=size.heads)
    told = (words or vocabulary(codes)).to_dict()
    return UnifiedModel(
        UnifiedConfig(vocabulary=told, backbone=backbone, head=base.head, read_outs=read_outs)
    )


def prompt(words: Vocabulary, caption: Sequence[int] | None) -> list[int]:
    """The ids before an image; no caption: those of the null branch."""
    return [words.begin, words.user, *(caption or ()), words.end, words.assistant]


@dataclass(frozen=True)
class Rows:
    """Ids [B, T], their layout, and `labels` [B, T]: the codes, all else ignored."""

    ids: Tensor
    layout: Layout
    labels: Tensor


def rows(
    words: Vocabulary,
    captions: Tensor | None,
    codes: Tensor,
    order: str,
    shapes: Shapes,
    data: tuple[int, ...] = (),
) -> Rows:
    """Rows of captions [B, 9] (None: of the null branch) and codes [B, T] in slot order, from 0."""
    head = prompt(words, None if captions is None else [0] * CAPTION)
    opened = words.open_write(order, shapes, data)
    line = torch.tensor([*head, *opened, *[words.visual_start] * area(shapes), words.close, words.end])
    ids = line.repeat(len(codes), 1)
    if captions is not None:
        ids[:, 2 : 2 + CAPTION] = captions
    start = len(head) + len(opened)
    ids[:, start : start + codes.shape[1]] = codes + words.visual_start
    labels = torch.full_like(ids, IGNORED)
    labels[:, start : start + codes.shape[1]] = ids[:, start : start + codes.shape[1]]
    return Rows(ids, layout_of(words, tuple(line.tolist()), len(codes)), labels)


_LAYOUTS: dict[tuple[Vocabulary, tuple[int, ...], int], Layout] = {}


def layout_of(words: Vocabulary, line: tuple[int, ...], count: int) -> Layout:
    """Of so many rows that are laid out as one line of ids."""
    key = (words, line, count)  # the same ids say another order in another vocabulary
    if key not in _LAYOUTS:
        if len(_LAYOUTS) > 256:
            _LAYOUTS.clear()
        _LAYOUTS[key] = Layout.of(torch.tensor(line).repeat(count, 1), words)
    return _LAYOUTS[key]


@lru_cache(maxsize=64)
def shapes_of(sides: tuple[int, ...]) -> Shapes:
    return as_shapes(sides)
