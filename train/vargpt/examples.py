"""Conversations as VARGPT learns from them: ids, labels, pictures to look at, a picture to draw.

The chat template writes a conversation out; the last picture of an assistant's turn is the one that is drawn
(start token, a padding id for each slot, end token), all others are looked at. Rows are the same whatever the
number of processes: row n depends on (seed, stage, n) alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from unified.tasks.outside.preference import read_preferences
from unified.tokenizers.images import to_images, to_uint8
from unified.train.pictures import task_of
from unified.train.recipe import ModelData
from unified.train.vargpt.stage import VARGPTStage

from unified.checkpoints.vargpt_config import GenerationIds, VARGPTConfig
from unified.layout.layout import IGNORED
from unified.orders.shapes import Shapes, area
from unified.stream.message_forms import plain_messages
from unified.vision_language.processor import PretrainedProcessor

Message = dict[str, Any]
VISION = ("pixel_values", "image_grid_thw")


@dataclass(frozen=True, eq=False)
class Example:
    """`ids` and `labels` (IGNORED: no target) of one conversation; `seen`: what the image processor makes of
    pictures to look at, {} for none; `drawn`: the picture to be drawn, float [3, H, W] in [-1, 1], if any;
    `null`: whether its decoder is steered by the learnt vector of no text."""

    ids: list[int]
    labels: list[int]
    seen: Mapping[str, Tensor]
    drawn: Tensor | None = None
    null: bool = False


@dataclass(frozen=True)
class Encoder:
    """Conversations -> examples for drawings of these `shapes`, `stride` pixels a cell. `slots`: ids that
    stand for a drawing."""

    processor: PretrainedProcessor
    ids: GenerationIds
    shapes: Shapes
    stride: int
    slots: int

    @staticmethod
    def of(processor: PretrainedProcessor, config: VARGPTConfig) -> Encoder:
        """ValueError for a tokenizer that does not know the tokens around a drawing as the model does."""
        shapes = config.shapes()
        found = Encoder(processor, config.ids, shapes, config.tokenizer.patch, config.padded(area(shapes)))
        words = processor.tokenizer
        for name, wanted in (("start", config.ids.start), ("end", config.ids.end)):
            token = f"<|image_gen_{name}|>"
            if words.convert_tokens_to_ids(token) != wanted:
                raise ValueError(f"the tokenizer does not know {token} as {wanted}, as the model does")
        return found

    def example(self, messages: Sequence[Message], stage: VARGPTStage, rng: np.random.Generator) -> Example:
        """Of a whole conversation. ValueError for one that is longer than the stage's `batch.length`."""
        told, picture = self._marked(plain_messages(list(messages)))
        prompt = self._written(told, whole=True)
        ids = prompt["input_ids"][0].tolist()
        labels = list(ids) if stage.data.prompts else self._answers(told, ids)
        where = ids.index(self.ids.start) + 1 if picture is not None else 0
        if picture is not None:  # the slots themselves are predicted by the decoder, and not as text
            ids[where:where] = [self.ids.pad] * self.slots
            labels[where:where] = [IGNORED] * self.slots
        if len(ids) > stage.batch.length:
            raise ValueError(f"a conversation of {len(ids)} ids is longer than {stage.batch.length}")
        return Example(
            ids=ids,
            labels=labels,
            seen={name: prompt[name] for name in VISION if prompt.get(name) is not None},
            drawn=None if picture is None else self._fitted(picture, stage.data.zoom, rng),
            null=picture is not None and bool(rng.random() < stage.data.null),
        )

    def _marked(self, messages: list[Message]) -> tuple[list[Message], Any]:
        """The messages with the picture that is drawn as its two tokens, and that picture."""
        drawn = [
            (number, place)
            for number, message in enumerate(messages)
            for place, item in enumerate(_items(message))
            if message["role"] == "assistant" and item["type"] == "image"
        ]
        found, picture = [], None
        for number, message in enumerate(messages):
            items = list(_items(message))
            if drawn and number == drawn[-1][0]:
                picture = items[drawn[-1][1]]["image"]
                items[drawn[-1][1]] = {"type": "text", "text": "<|image_gen_start|><|image_gen_end|>"}
            found.append({"role": message["role"], "content": items})
        return found, picture

    def _written(self, messages: list[Message], *, whole: bool) -> Any:
        """By the chat template: all of a conversation, or a prompt with the assistant's turn opened."""
        content = [
            {**message, "content": [_shown(item) for item in message["content"]]} for message in messages
        ]
        return self.processor.processor.apply_chat_template(
            content,
            add_generation_prompt=not whole,
            tokenize=True,
            return_dict=True,
            processor_kwargs={"return_tensors": "pt"},
        )

    def _answers(self, messages: list[Message], ids: list[int]) -> list[int]:
        """The ids of all turns of the assistant, IGNORED elsewhere."""
        labels = [IGNORED] * len(ids)
        for number, message in enumerate(messages):
            if message["role"] == "assistant":
                start = self._written(messages[:number], whole=False)["input_ids"].shape[1]
                stop = self._written(messages[: number + 1], whole=True)["input_ids"].shape[1]
                labels[start:stop] = ids[start:stop]
        return labels

    def _fitted(self, picture: Any, zoom: float, rng: np.random.Generator) -> Tensor:
        """A random part of a picture, at the drawing's size."""
        height, width = (side * self.stride for side in self.shapes[-1])
        image = Image.fromarray(to_uint8(to_images(picture))[0])
        scale = zoom * max(height / image.height, width / image.width)
        size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
        left, top = (int(rng.integers(more + 1)) for more in (size[0] - width, size[1] - height))
        return to_images(image.crop((left, top, left + width, top + height)))[0]


def _items(message: Message) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _shown(item: dict[str, Any]) -> dict[str, Any]:
    if item["type"] != "image":
        return item
    return {"type": "image", "image": Image.fromarray(to_uint8(to_images(item["image"]))[0])}


# Rows -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Item:
    """Row `number` of a stage: one example, or a chosen and a rejected one."""

    number: int
    examples: list[Example]


class Rows(Dataset):
    """`steps * rows` items of a stage."""

    def __init__(self, stage: VARGPTStage, data: ModelData, encoder: Encoder, seed: int) -> None:
        self.stage, self.encoder, self.seed, self.split = stage, encoder, seed, data.split
        self.sources = [source for source in data.sources if source.label in stage.data.mixture]
        self.tasks = [task_of(source, seed) for source in self.sources]
        self.pairs = [pair for name in stage.data.pairs for pair in read_preferences(Path(name))]

    def __len__(self) -> int:
        return self.stage.steps * self.stage.batch.rows

    def __getitem__(self, number: int) -> Item:
        rng = np.random.default_rng([self.seed, zlib.crc32(self.stage.name.encode()), number])
        if self.pairs:
            parts = self.pairs[self._pair(number)].messages()
            sides = ([*parts["prompt"], *parts[side]] for side in ("chosen", "rejected"))
            pair = [self._drawing(self.encoder.example(side, self.stage, rng)) for side in sides]
            return Item(number, pair)
        shares = np.array([self.stage.data.mixture[source.label] for source in self.sources])
        chosen = int(rng.choice(len(shares), p=shares / shares.sum()))
        sample = self.tasks[chosen].sample(int(rng.integers(self.sources[chosen].samples)), self.split)
        return Item(number, [self.encoder.example(sample.messages, self.stage, rng)])

    def _pair(self, number: int) -> int:
        """All pairs once in every epoch, in another order each time."""
        epoch, place = divmod(number, len(self.pairs))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pairs))
        return int(order[place])

    def _drawing(self, example: Example) -> Example:
        if example.drawn is None:
            raise ValueError("preferences of VARGPT are between drawings: both answers need a picture")
        return example


def collator(pad: int) -> Callable[[Sequence[Item]], dict[str, Any]]:
    """Items -> a batch: `number`, that of the first; `ids` and `labels` [B, T], padded at their ends with
    `pad`; `pictures`, those to look at; `drawn` [N, 3, H, W] and `null` [N] of the rows that draw; `rows`,
    their number."""

    def collate(items: Sequence[Item]) -> dict[str, Any]:
        examples = [example for item in items for example in item.examples]
        width = max(len(example.ids) for example in examples)
        drawn = [example for example in examples if example.drawn is not None]
        names = dict.fromkeys(name for example in examples for name in example.seen)
        return {
            "number": items[0].number,
            "ids": _padded([example.ids for example in examples], width, pad),
            "labels": _padded([example.labels for example in examples], width, IGNORED),
            "pictures": {
                name: torch.cat([example.seen[name] for example in examples if name in example.seen])
                for name in names
            },
            "drawn": torch.stack([one.drawn for one in drawn]) if drawn else None,  # type: ignore[misc]
            "null": torch.tensor([example.null for example in drawn]),
            "rows": len(examples),
        }

    return collate


def _padded(rows: Sequence[list[int]], width: int, fill: int) -> Tensor:
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])
