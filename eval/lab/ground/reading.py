"""Small models that read pictures and say their captions, trained within an experiment: the base models of
the ground draw, and read nothing.

A row is `begin user READ end assistant CAPTION end`. A picture is read as patches of 4 x 4 pixels, each a
vector of its colours and a constant, by a linear reader; without a picture the row has no READ segment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.ground.bases import MOST_SIDE, layout_of
from unified.eval.lab.ground.scenes import CAPTION, NUMBER, SIDE, WORDS
from unified.eval.lab.ground.tokenizers import STRIDE, as_images
from unified.eval.lab.ground.training import Course, Trained, train
from unified.eval.lab.sizes import Sizes

from unified.config import UnifiedConfig, text_decoder
from unified.decoding.grounding import Contrast
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.layout.layout import IGNORED, Layout
from unified.model import UnifiedModel
from unified.stream.vocabulary import CONTINUOUS, Vocabulary

CELLS = SIDE // STRIDE
SHAPES = ((CELLS, CELLS),)
CHANNELS = 3 * STRIDE * STRIDE + 1
GREEDY = Sampler(temperature=0)
PLACES = {"size": (1, 5), "colour": (2, 6), "shape": (3, 7), "cell": (4, 8)}  # of words in a caption


def new_reader(sizes: Sizes, seed: int) -> UnifiedModel:
    """Half as wide and deep as a base model, with random weights of this seed."""
    size = sizes.model.part(0.5, 0.5)
    words = Vocabulary(
        text=len(WORDS), visual=2, action=0, max_side=MOST_SIDE, orders=("raster",), appended=(CONTINUOUS,)
    )
    torch.manual_seed(seed)
    backbone = text_decoder(width=size.width, layers=size.layers, heads=size.heads, kv_heads=size.heads)
    readers = {CONTINUOUS: {"kind": "linear", "width": CHANNELS}}
    return UnifiedModel(UnifiedConfig(vocabulary=words.to_dict(), backbone=backbone, readers=readers))


def patches(pictures: np.ndarray) -> Tensor:
    """uint8 [N, 32, 32, 3] -> [N, 64, 49]."""
    images = as_images(pictures)
    found = torch.nn.functional.unfold(images, STRIDE, stride=STRIDE).transpose(1, 2)  # [N, 64, 48]
    return torch.cat([found, torch.ones_like(found[..., :1])], dim=-1)


@dataclass(frozen=True)
class Told:
    """Ids [B, T], their layout, `labels` [B, T]: the words of the captions and the end, and the values at
    placeholders, none where nothing is read."""

    ids: Tensor
    layout: Layout
    labels: Tensor
    values: dict[str, Tensor]


def opening(words: Vocabulary, seen: bool) -> list[int]:
    """The ids before a caption."""
    image = words.read_ids([words.placeholder(CONTINUOUS)] * CELLS**2, SHAPES) if seen else []
    return [words.begin, words.user, *image, words.end, words.assistant]


def told(words: Vocabulary, captions: Tensor, vectors: Tensor | None) -> Told:
    """Rows of captions [B, 9] and patches [B, 64, 49]; None: of captions without pictures."""
    head = opening(words, vectors is not None)
    line = (*head, *[0] * CAPTION, words.end)
    ids = torch.tensor(line).repeat(len(captions), 1)
    ids[:, len(head) : len(head) + CAPTION] = captions
    labels = torch.full_like(ids, IGNORED)
    labels[:, len(head) :] = ids[:, len(head) :]
    values = {} if vectors is None else {CONTINUOUS: vectors.flatten(0, 1)}
    return Told(ids, layout_of(words, line, len(captions)), labels, values)


def image_places(words: Vocabulary, rows: int) -> Tensor:
    """[B, T] bool: where the patches stand in rows of pictures."""
    line = torch.tensor([*opening(words, True), *[0] * CAPTION, words.end])
    return (line == words.placeholder(CONTINUOUS)).expand(rows, -1)


def train_reader(
    model: UnifiedModel,
    data: tuple[Tensor, Tensor],
    course: Course,
    folder: Path,
    *,
    batch: int,
    seed: int,
    blind: float = 0.0,
    further: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Trained:
    """Teach captions. `data`: captions [N, 9] and patches [N, 64, 49]; a share of `blind` steps shows no
    picture. `further`: a term beside the likelihood, of the numbers [B] of pictures and hidden
    states [B, T, D]."""
    captions, vectors = data

    def loss(step: int) -> Tensor:
        rng = np.random.default_rng([seed, step])
        chosen = torch.from_numpy(rng.integers(len(captions), size=batch))
        shown = None if rng.random() < blind else vectors[chosen]
        rows = told(model.vocabulary, captions[chosen], shown)
        options = {"layout": rows.layout, "values": rows.values, "return_logits": False}
        found = model(rows.ids, labels=rows.labels, **options)
        assert found.loss is not None
        assert found.hidden_states is not None
        if further is None or shown is None:
            return found.loss
        return found.loss + further(chosen, found.hidden_states)

    return train(model, loss, course, folder)


@torch.no_grad()
def said(model: UnifiedModel, vectors: Tensor, contrast: float | Contrast = 0.0, rows: int = 32) -> Tensor:
    """Captions [N, 9] that are said, greedily, of patches [N, 64, 49]."""
    words, found = model.vocabulary, []
    for part in vectors.split(rows):
        session = Session(model, rows=len(part))
        session.feed(opening(words, True), values={CONTINUOUS: part.flatten(0, 1)})
        options: dict[str, Any] = {"sampler": GREEDY, "max_tokens": CAPTION, "draw": False, "end": False}
        lines = list(session.text(visual_contrast=contrast, **options))
        found.append(torch.tensor(lines).T)
    return torch.cat(found)


# What captions say ------------------------------------------------------------------------------------------


def mentioned(captions: Tensor) -> list[set[tuple[int, int]]]:
    """Colour and shape of every object of captions [N, 9]."""
    pairs = list(zip(PLACES["colour"], PLACES["shape"], strict=True))
    nothing = NUMBER["nothing"]
    return [
        {(line[a], line[b]) for a, b in pairs if nothing not in (line[a], line[b])}
        for line in captions.tolist()
    ]


def words_right(given: Tensor, true: Tensor) -> dict[str, float]:
    """By attribute and over all nine words: the share of words of captions [N, 9] that are right."""
    right = (given == true).float()
    named: dict[str, Sequence[int]] = {"background": (0,), **PLACES}
    return {
        **{name: float(right[:, list(x)].mean()) for name, x in named.items()},
        "words": float(right.mean()),
    }
