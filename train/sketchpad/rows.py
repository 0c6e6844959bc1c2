"""From a conversation with sketches to what an image-text model reads: ids, labels, images.

The question is laid out by the model's own chat template. In the answer an image stands as the id that begins
an image, its placeholders and the id that ends it, as it does when the model draws; these are no targets of
the text loss. Images of the answer are `written`: their latents see those before them alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.vision_language.processor import PretrainedProcessor
from unified.vision_language.sketchpad.model import Images, Sketchpad

IGNORED = -100
Messages = Sequence[Mapping[str, Any]]


@dataclass
class Row:
    """One conversation. `labels`: `ids` where the text loss has a target, IGNORED elsewhere. `images` in the
    order of their placeholders; `written`: which the model draws itself. `drawn`: positions of the image to
    be predicted, none without one."""

    ids: list[int]
    labels: list[int]
    images: Images
    written: list[bool]
    drawn: range = field(default_factory=lambda: range(0))


@dataclass(frozen=True)
class Batch:
    """Rows as tensors. `ids`, `labels` [B, T], padded at their ends; `values` of all placeholders; `prefix`
    and `drawn` [B, T] bool: placeholders of finished images, and of the one to be predicted; `target` [B, n *
    merge, V]: features of the latter before the connector, None without one."""

    ids: Tensor
    labels: Tensor
    values: dict[str, Tensor]
    prefix: Tensor
    drawn: Tensor
    target: Tensor | None


def pictures_of(messages: Messages) -> list[np.ndarray]:
    """The pictures of a conversation in their order."""
    return [item["image"] for message in messages for item in message["content"] if item["type"] == "image"]


def with_pictures(messages: Messages, pictures: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """The conversation with other pictures in the places of its own."""
    left = iter(pictures)
    return [
        {**message, "content": [_with(item, left) for item in message["content"]]} for message in messages
    ]


def _with(item: Mapping[str, Any], pictures: Any) -> dict[str, Any]:
    return {"type": "image", "image": next(pictures)} if item["type"] == "image" else dict(item)


def text_only(messages: Messages) -> list[dict[str, Any]]:
    """A copy with the first picture of the question alone: the published augmentation of the first stage."""
    question, answer = messages
    first, found = True, []
    for item in question["content"]:
        if item["type"] != "image" or first:
            found.append(item)
        first = first and item["type"] != "image"
    words = [item for item in answer["content"] if item["type"] != "image"]
    return [{**question, "content": found}, {**answer, "content": words}]


def up_to(messages: Messages, step: int) -> list[dict[str, Any]]:
    """The conversation up to and with the answer's picture of this number, counted from 0."""
    question, answer = messages
    places = [number for number, item in enumerate(answer["content"]) if item["type"] == "image"]
    return [dict(question), {**answer, "content": list(answer["content"][: places[step] + 1])}]


def lay_row(
    pad: Sketchpad, processor: PretrainedProcessor, messages: Messages, *, draw_last: bool = False
) -> Row:
    """A conversation of one question and one answer. `draw_last`: the answer ends with the image that is to
    be predicted; otherwise it ends with the id that ends an answer. ValueError for other conversations, and
    for one longer than the model's context."""
    if [message["role"] for message in messages] != ["user", "assistant"]:
        raise ValueError("a trace is one question and one answer")
    question, answer = messages
    prompt = processor.prompt([question])
    asked, told = pad.encode(prompt.inputs), pad.encode(processor.pixels(pictures_of([answer])))
    ids, labels, drawn = list(prompt.ids), [IGNORED] * len(prompt.ids), range(0)
    counts = iter([len(features) // pad.connector.merge for features in told.features])
    for item in answer["content"]:
        if item["type"] == "image":
            block = [pad.begin, *[pad.reader.image] * next(counts), pad.end]
            drawn = range(len(ids) + 1, len(ids) + len(block) - 1)
            ids, labels = ids + block, labels + [IGNORED] * len(block)
        else:
            words = processor.tokenizer(item["text"], add_special_tokens=False)["input_ids"]
            ids, labels = ids + words, labels + words
    if draw_last:
        ids, labels = ids[: drawn.stop], labels[: drawn.stop]  # what follows it is not needed
    elif pad.reader.ends:
        end = pad.reader.vocabulary.end
        ids, labels = [*ids, end], [*labels, end]
    most = pad.reader.context_length
    if most is not None and len(ids) > most:
        raise ValueError(f"a trace of {len(ids)} ids, and the model's context has {most}: shorten it")
    written = [False] * len(asked) + [True] * len(told)
    return Row(ids, labels, asked.then(told), written, drawn if draw_last else range(0))


def batch_of(pad: Sketchpad, rows: Sequence[Row]) -> Batch:
    """Rows as one batch, on the model's device. ValueError for images to be predicted of another number of
    positions than the head's."""
    longest, pad_id = max(len(row.ids) for row in rows), pad.reader.vocabulary.pad

    def padded(lists: Sequence[Sequence[int]], value: int) -> Tensor:
        return torch.tensor([[*one, *[value] * (longest - len(one))] for one in lists])

    ids = padded([row.ids for row in rows], pad_id)
    drawn = torch.zeros(ids.shape, dtype=torch.bool)
    for mark, row in zip(drawn, rows, strict=True):
        mark[row.drawn.start : row.drawn.stop] = True
        if len(row.drawn) not in (0, pad.tokens):
            raise ValueError(
                f"an image of {len(row.drawn)} positions, the vision head draws {pad.tokens}: give all "
                "pictures the size of the sketches"
            )
    images = Images([])
    for row in rows:
        images = images.then(row.images)
    device = pad.reader.device
    targets = [row.images.features[-1] for row in rows if row.drawn]
    return Batch(
        ids=ids,
        labels=padded([row.labels for row in rows], IGNORED).to(device),
        values=pad.values(images, [own for row in rows for own in row.written]),
        prefix=((ids == pad.reader.image) & ~drawn).to(device),
        drawn=drawn.to(device),
        target=torch.stack(targets) if targets else None,
    )
