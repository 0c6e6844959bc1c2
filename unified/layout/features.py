"""Text of a pretrained model's stream: where its ids and image features stand, and who sees whom.

Text is causal. Features are so too, or, where the model says so (Gemma 3, arXiv 2503.19786), those of one
image see one another: they then share a label, as a READ segment does. Positions are consecutive numbers, or,
for multimodal rotary embeddings (Qwen2-VL, arXiv 2409.12191), those that the model itself gives an image:
they travel beside its features as `places` (`readers.tower.places_of`). Marks stand nowhere: nothing sees
them, and what follows stands where it would without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from unified.stream.base_words import PLACES
from unified.stream.segments import Kind
from unified.stream.vocabulary import Vocabulary

FIRST, ADVANCE = 3, 4  # columns of `places` after time, row and column


@dataclass(frozen=True)
class TextLine:
    """Of T ids in a line, counted from where they begin: `label` [T], `position` [3, T], `segment` [T] (runs
    of text and single marks), `kind` [T], `predicted` [T] bool; `labels` and `moved`: by how much labels and
    positions move on what follows."""

    label: np.ndarray
    position: np.ndarray
    segment: np.ndarray
    kind: np.ndarray
    predicted: np.ndarray
    labels: int
    moved: float


def split_places(
    table: np.ndarray, words: Vocabulary, values: Mapping[str, Tensor] | None
) -> Sequence[Tensor | None]:
    """The PLACES among `values` for each row of ids [B, T]; None without any. ValueError for another number
    of placeholders than places."""
    places = (values or {}).get(PLACES)
    if places is None:
        return [None] * len(table)
    counts = (table == words.image).sum(axis=1).tolist()
    if sum(counts) != len(places):
        raise ValueError(f"the ids have {sum(counts)} image placeholders, there are {len(places)} places")
    return places.cpu().split(counts)


def text_line(ids: np.ndarray, words: Vocabulary, places: np.ndarray | None = None) -> TextLine:
    """`places` [N, 5], for the N image placeholders among ids [T]: time, row and column from the position at
    which their image begins, 1 for the first of an image, and by how much the image moves on what follows
    it. Without them every id moves by 1."""
    image, mark = ids == words.image, np.isin(ids, list(words.marks))
    first = image & ~np.append([False], image[:-1])
    if places is not None:
        first[image] |= places[:, FIRST] > 0
    together = words.base is not None and words.base.together
    step = ~mark & ~(image & ~first) if together else ~mark  # ids that begin a label
    shared = image & ~step  # features with the label of the first one
    labels = np.cumsum(step)
    border = mark | np.append([False], mark[:-1])
    position, moved = _positions(image, first, mark, places)
    return TextLine(
        label=np.where(shared, labels - 1, labels - step),
        position=position,
        segment=np.cumsum(np.append([False], border[1:])),
        kind=np.where(mark, int(Kind.WRITE), np.where(image, int(Kind.READ), int(Kind.TEXT))),
        predicted=~mark & ~image,
        labels=int(labels[-1]),
        moved=moved,
    )


def _positions(
    image: np.ndarray, first: np.ndarray, mark: np.ndarray, places: np.ndarray | None
) -> tuple[np.ndarray, float]:
    """[3, T] counted from 0, and by how much they move on what follows."""
    move = np.where(mark, 0.0, 1.0)
    if places is None:
        return np.tile(np.cumsum(move) - move, (3, 1)), float(move.sum())
    move[image] = 0.0
    move[first] = places[first[image], ADVANCE]
    before = np.cumsum(move) - move  # where an id stands, or its image begins
    starts = before[first][np.cumsum(first)[image] - 1]
    position = np.tile(before, (3, 1))
    position[:, image] = starts + places[:, :FIRST].T
    return position, float(move.sum())
