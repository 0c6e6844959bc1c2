"""Continuous values of a batch into the places where their placeholders stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unified.readers.reader import Reader
from unified.stream.vocabulary import CONTINUOUS, Vocabulary


def scatter_values(
    embeds: Tensor, ids: Tensor, vocabulary: Vocabulary, vectors: Tensor, name: str = CONTINUOUS
) -> Tensor:
    """embeds [B, T, D] with vectors [N, D] at the placeholders for values called `name`, in the order in
    which these stand in ids [B, T], row by row. ValueError for another number of placeholders than N, or for
    vectors of another width than D."""
    token = vocabulary.placeholder(name)
    rows, places = (ids == token).nonzero(as_tuple=True)
    if len(rows) != len(vectors):
        what = vocabulary.name(token)
        raise ValueError(f"the ids have {len(rows)} placeholders {what}, but there are {len(vectors)} {name}")
    if vectors.shape[1:] != embeds.shape[2:]:
        raise ValueError(
            f"{name} of width {tuple(vectors.shape[1:])} for embeddings of width {embeds.shape[2]}"
        )
    return embeds.index_put((rows, places), vectors.to(embeds.dtype))


def read_values(
    readers: Mapping[str, Reader],
    embeds: Tensor,
    ids: Tensor,
    vocabulary: Vocabulary,
    values: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """embeds [B, T, D] of ids [B, T] with all values of a batch read into their places. `values`: by name,
    those of all rows one after another, as their reader takes them. ValueError, in one line, for values
    without a reader, for a placeholder without values, or where the numbers differ."""
    values = values or {}
    taken = _names_by_id(values, vocabulary)
    for token in vocabulary.placeholders:
        if token not in taken and bool((ids == token).any()):
            raise ValueError(f"the ids have placeholders {vocabulary.name(token)}, but there are no values")
    for name, given in values.items():
        if name not in readers:
            known = ", ".join(readers) or "none"
            raise ValueError(f"no reader for {name}: the readers of the configuration are for {known}")
        vectors = readers[name](given)
        flat = vectors.reshape(-1, vectors.shape[-1])
        embeds = scatter_values(embeds, ids, vocabulary, flat, name)
    return embeds


def collate_values(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The values of a batch from those of its rows, in their order."""
    names = dict.fromkeys(name for sample in samples for name in sample)
    return {name: torch.cat([sample[name] for sample in samples if name in sample]) for name in names}


def _names_by_id(values: Mapping[str, Tensor], vocabulary: Vocabulary) -> dict[int, str]:
    taken: dict[int, str] = {}
    for name in values:
        token = vocabulary.placeholder(name)
        if token in taken:
            raise ValueError(
                f"{taken[token]} and {name} share the placeholder {vocabulary.name(token)}: "
                f"extend the vocabulary by '{CONTINUOUS}:{name}'"
            )
        taken[token] = name
    return taken


def split_values(
    values: Mapping[str, Tensor], lists: Sequence[Sequence[int]], vocabulary: Vocabulary
) -> list[dict[str, Tensor]]:
    """By row, the vectors of values [N, C] for the placeholders in its ids. ValueError for another number of
    placeholders than vectors."""
    found: list[dict[str, Tensor]] = [{} for _ in lists]
    given = {vocabulary.placeholder(name) for name in values}
    for token in set(vocabulary.placeholders) - given:
        if any(token in ids for ids in lists):
            raise ValueError(f"the ids have placeholders {vocabulary.name(token)}, but there are no values")
    for name, vectors in values.items():
        token = vocabulary.placeholder(name)
        counts = [list(ids).count(token) for ids in lists]
        if sum(counts) != len(vectors):
            what = vocabulary.name(token)
            raise ValueError(
                f"the ids have {sum(counts)} placeholders {what}, but there are {len(vectors)} {name}"
            )
        for row, part in zip(found, vectors.split(counts), strict=True):
            row[name] = part
    return found


def latest_values(
    rows: Sequence[Mapping[str, Tensor]], lists: Sequence[Sequence[int]], vocabulary: Vocabulary
) -> dict[str, Tensor]:
    """The vectors, row by row, that stand at the placeholders of each row's latest ids, out of all those of
    its stream."""
    found: dict[str, list[Tensor]] = {}
    for values, ids in zip(rows, lists, strict=True):
        for name, vectors in values.items():
            count = list(ids).count(vocabulary.placeholder(name))
            found.setdefault(name, []).append(vectors[len(vectors) - count :])
    joined = {name: torch.cat(parts) for name, parts in found.items()}
    return {name: vectors for name, vectors in joined.items() if len(vectors)}
