"""Rows made of pieces, text, pictures and actions in any order, and small models of them: what experiments on
grounds of their own share.

All rows of a batch have the same pieces, so a batch has one layout, computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.ground.bases import SQUARE, Rows, layout_of
from unified.eval.lab.ground.tokenizers import as_images, train_one
from unified.eval.lab.sizes import Sizes

from unified.config import UnifiedConfig, text_decoder
from unified.layout.layout import IGNORED
from unified.model import UnifiedModel
from unified.orders.shapes import Shapes
from unified.stream.vocabulary import Vocabulary

ORDER = "raster"
MARKS = {"ask": ("begin", "user"), "answer": ("end", "assistant"), "close": ("end",)}


@dataclass(frozen=True)
class Piece:
    """`numbers` [B, n], counted from 0 in the range of their kind ("raw": ids as they are); with `scored`
    they are targets."""

    kind: Literal["text", "read", "write", "action", "raw"]
    numbers: Tensor
    scored: bool = False


Parts = Sequence[Piece | str]  # a string is one of MARKS


def joined(words: Vocabulary, parts: Parts, shapes: Shapes = SQUARE) -> Rows:
    """Rows of pieces, pictures being maps of `shapes` in ORDER."""
    count = next(len(part.numbers) for part in parts if isinstance(part, Piece))
    ids, labels = [], []
    for part in parts:
        if isinstance(part, str):
            block, targets = _fixed(words, [words.special[name] for name in MARKS[part]], count), None
        else:
            block, targets = _ids(words, part, shapes)
        ids.append(block)
        labels.append(torch.full_like(block, IGNORED) if targets is None else targets)
    row = torch.cat(ids, dim=1)
    line = row[0].clone()
    line[words.is_visual(line)] = words.visual_start
    line[words.is_action(line)] = words.action_start
    line[line < words.text] = 0
    return Rows(row, layout_of(words, tuple(line.tolist()), count), torch.cat(labels, dim=1))


def prompts(words: Vocabulary, parts: Parts, shapes: Shapes = SQUARE) -> list[list[int]]:
    """The same as lists for a session."""
    found: list[list[int]] = joined(words, parts, shapes).ids.tolist()
    return found


def _fixed(words: Vocabulary, ids: Sequence[int], count: int) -> Tensor:
    return torch.tensor(list(ids), dtype=torch.long).expand(count, -1)


def _ids(words: Vocabulary, part: Piece, shapes: Shapes) -> tuple[Tensor, Tensor | None]:
    """Ids of a piece with what stands around it, and its labels."""
    starts = {"text": 0, "raw": 0, "action": words.action_start}
    start = starts.get(part.kind, words.visual_start)
    inner, before, after = part.numbers.long() + start, [], []  # type: ignore[var-annotated]
    if part.kind == "read":
        before, after = [words.special["read"], *words.sizes(shapes)], [words.close]
    elif part.kind == "write":
        before, after = words.open_write(ORDER, shapes), [words.close]
    count = len(inner)
    block = torch.cat([_fixed(words, before, count), inner, _fixed(words, after, count)], dim=1)
    if not part.scored:
        return block, None
    targets = torch.full_like(block, IGNORED)
    targets[:, len(before) : block.shape[1] - len(after)] = inner
    return block, targets


# Models and tokenizers --------------------------------------------------------------------------------------


def small(sizes: Sizes) -> Sizes:
    """For a tokenizer of pictures that are no scenes: half as wide, trained half as long."""
    size = replace(sizes.tokenizer, width=max(32, sizes.tokenizer.width // 2))
    return replace(sizes, tokenizer=size, tokenizer_steps=max(2, sizes.tokenizer_steps // 2))


def picture_tokenizer(pictures: np.ndarray, sizes: Sizes, work: Any) -> Any:
    """A VQ codebook for pictures uint8 [N, 32, 32, 3]."""
    return train_one("vq", pictures, small(sizes), work)


@torch.no_grad()
def codes_of(coder: Any, pictures: np.ndarray, shapes: Shapes = SQUARE) -> Tensor:
    """[N, T] of pictures uint8 [N, H, W, 3]."""
    parts = as_images(pictures).split(256)
    return torch.cat([torch.cat(coder.encode(part, shapes), dim=1) for part in parts])


def small_model(
    sizes: Sizes, words: Vocabulary, seed: int, readers: dict[str, dict[str, Any]] | None = None
) -> UnifiedModel:
    """Half as wide and deep as a base model, with random weights of this seed."""
    size = sizes.model.part(0.5, 0.5)
    torch.manual_seed(seed)
    backbone = text_decoder(width=size.width, layers=size.layers, heads=size.heads, kv_heads=size.heads)
    return UnifiedModel(UnifiedConfig(vocabulary=words.to_dict(), backbone=backbone, readers=readers))


def drawn_rows(seed: int, step: int, count: int, batch: int) -> Tensor:
    """[batch]: which of `count` samples a training step takes."""
    return torch.from_numpy(np.random.default_rng([seed, step]).integers(count, size=batch))
