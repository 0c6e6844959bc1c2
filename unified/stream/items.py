"""One item of a message -> ids, and the continuous values that its placeholders stand for.

Every item is checked here. ValueError, in one line, names the item and what does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.orders import plan_for
from unified.orders.shapes import Shapes, area, as_shapes
from unified.stream.vocabulary import CONTINUOUS, Vocabulary
from unified.tokenizers.shown import shown

Item = dict[str, Any]
MOST_VECTORS = 2**24  # of one item


@dataclass(frozen=True)
class Encoded:
    """`values`: by name, float32 [N, C], one vector for each of their placeholders, in the order in which
    these stand in `ids`."""

    ids: list[int]
    values: dict[str, Tensor]


class Values:
    """Continuous values, gathered while items are encoded one after another."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.parts: dict[str, list[Tensor]] = {}
        self.missing = ""  # the first item that has placeholders alone

    def add(self, name: str, vectors: Tensor) -> None:
        """[n, C] for the next n placeholders of this name."""
        token = self.vocabulary.placeholder(name)
        other = next((known for known in self.parts if known != name and self._is(known, token)), None)
        if other is not None:
            raise ValueError(
                f"{other} and {name} share the placeholder {self.vocabulary.name(token)}: "
                f"extend the vocabulary by '{CONTINUOUS}:{name}'"
            )
        parts = self.parts.setdefault(name, [])
        if parts and parts[0].shape[1] != vectors.shape[1]:
            raise ValueError(f"{name} of {vectors.shape[1]} channels after others of {parts[0].shape[1]}")
        parts.append(vectors)

    def _is(self, name: str, token: int) -> bool:
        return self.vocabulary.placeholder(name) == token

    def tensors(self) -> dict[str, Tensor]:
        """All by name. ValueError if an item had none."""
        if self.missing:
            raise ValueError(f"{self.missing} has a placeholder, but no values")
        return {name: torch.cat(parts) for name, parts in self.parts.items()}


# Images and features --------------------------------------------------------------------------------------


def image_ids(item: Item, where: str, vocabulary: Vocabulary, values: Values) -> list[int]:
    """An image given by its codes, by its latents [n, C], or by the name of a placeholder alone."""
    given = next((key for key in ("latents", "placeholder") if key in item), "codes")
    only(item, where, given, "shapes", optional=("order", "data"))
    try:
        shapes, order = as_shapes(item["shapes"]), item.get("order")
        data = tuple(whole_numbers(item.get("data", ()), "data"))
        if given == "codes":
            body = vocabulary.visual_ids(_codes(item["codes"], shapes))
        elif given == "latents":
            vectors = _vectors(item["latents"], given)
            _count(len(vectors), given, shapes)
            body = [vocabulary.placeholder(given)] * len(vectors)
            values.add(given, vectors)
            if order is not None:
                values.add(given, vectors[plan_for(order, shapes, data).read])
        else:
            body = [_placeholder(item[given], vocabulary)] * area(shapes)
            values.missing = values.missing or f"{where} (image)"
        return image_segments(body, shapes, order, vocabulary, data)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error!s:.300}") from None


def image_segments(
    body: Sequence[int],
    shapes: Shapes,
    order: str | None,
    vocabulary: Vocabulary,
    data: tuple[int, ...] = (),
) -> list[int]:
    """The segments of an image whose maps hold the ids `body`: READ, or with an order (and its data) WRITE
    and then READ."""
    if order is None and data:
        raise ValueError("data is for the order of an image that is written: give its order")
    if order is None:
        return vocabulary.read_ids(body, shapes)
    plan = plan_for(order, shapes, data)
    write = [*vocabulary.open_write(order, shapes, data), *body, vocabulary.close]
    return write + vocabulary.read_ids([body[slot] for slot in plan.read.tolist()], plan.read_shapes)


def feature_ids(item: Item, where: str, vocabulary: Vocabulary, values: Values) -> list[int]:
    """Features [n, C] under a name, or a placeholder and their count alone."""
    alone = "placeholder" in item
    only(item, where, *(("placeholder", "count") if alone else ("name", "values")))
    try:
        if alone:
            token = _placeholder(item["placeholder"], vocabulary)
            (count,) = whole_numbers([item["count"]], "count")
            values.missing = values.missing or f"{where} (features)"
        else:
            vectors = _vectors(item["values"], str(item["name"]))
            token, count = vocabulary.placeholder(str(item["name"])), len(vectors)
            values.add(str(item["name"]), vectors)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error!s:.300}") from None
    if not 1 <= count <= MOST_VECTORS:
        limit = "at least one vector" if count < 1 else f"at most {MOST_VECTORS} vectors"
        raise ValueError(f"{where}: features need {limit}, got {count}")
    if token == vocabulary.image:  # its frame is the text around it
        return [token] * count
    return [vocabulary.special["read"], *[token] * count, vocabulary.special["close"]]


def _codes(codes: Any, shapes: Shapes) -> list[int]:
    found = whole_numbers(codes, "codes")
    _count(len(found), "codes", shapes)
    return found


def whole_numbers(values: Any, name: str) -> list[int]:
    """Numbers in any shape as a flat list. ValueError for fractions, what is not finite, and no numbers."""
    try:
        array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
        whole = array.dtype.kind in "iu" or not array.size or bool((array == np.floor(array)).all())
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ValueError(f"{name} must be whole numbers, got {shown(values)}")
    return [int(number) for number in array.reshape(-1).tolist()]


def _count(count: int, what: str, shapes: Shapes) -> None:
    if count != area(shapes):
        raise ValueError(f"{count} {what}, but the sizes {shapes} need {area(shapes)}")


def _vectors(values: Any, name: str) -> Tensor:
    try:
        vectors = torch.as_tensor(values).detach().float().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(f"{name} must be numbers [vectors, channels], got {shown(values)}") from None
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise ValueError(f"{name} must have shape [vectors, channels], got {tuple(vectors.shape)}")
    if not vectors.isfinite().all():
        raise ValueError(f"{name} must be finite numbers")
    return vectors


def _placeholder(name: Any, vocabulary: Vocabulary) -> int:
    token = next((token for token, known in vocabulary.placeholders.items() if known == name), None)
    if token is None:
        has = ", ".join(vocabulary.placeholders.values()) or "none"
        raise ValueError(f"the vocabulary has no placeholder called {name!r:.60}: it has {has}")
    return token


# Actions --------------------------------------------------------------------------------------------------


def action_ids(item: Item, where: str, vocabulary: Vocabulary) -> list[int]:
    """An action of as many ids, counted from 0, as the vocabulary has action slots."""
    ids = whole_numbers(only(item, where, "ids")["ids"], f"{where}: ids")
    if len(ids) != vocabulary.action_slots:
        raise ValueError(f"{where}: an action has {vocabulary.action_slots} ids, got {len(ids)}")
    for slot, number in enumerate(ids):
        if not 0 <= number < vocabulary.action:
            raise ValueError(f"{where}: id {number} in slot {slot} is outside 0..{vocabulary.action - 1}")
    return [vocabulary.action_start + number for number in ids]


def only(item: Item, where: str, *keys: str, optional: tuple[str, ...] = ()) -> Item:
    """The item, if it has these keys, and no others but the optional; else ValueError."""
    missing = [key for key in keys if key not in item]
    unknown = [key for key in item if key not in (*keys, "type", *optional)]
    if missing or unknown:
        problem = f"misses {missing[0]!r}" if missing else f"has an unknown key {unknown[0]!r}"
        raise ValueError(f"{where} ({item['type']}) {problem}: it takes {', '.join(keys)}")
    return item
