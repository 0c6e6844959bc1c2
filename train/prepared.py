"""Samples as ids on disk: made once by several processes, then read as memory maps while training.

The frozen image tokenizer is the slow part of making data, so it never runs during training. A folder holds
one source for one set of tokenizers; its name ends in a hash of all that decides the ids, so a changed
tokenizer or option makes a new folder and none is ever mixed up. Shard k is

    00000.ids.npy   all ids in a row (uint16, int32 or int64)
    00000.rows.npy  int64 [n, 5]: start, stop, and the number of targets of text, action and image

Ids are renamed into place first and rows last: a shard with rows is whole, and an interrupted `prepare` goes
on with the missing shards.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from unified.tasks.sample import Sample
from unified.train.folders import bytes_or, load_visual, make_processor, vocabulary_of
from unified.train.pictures import mapped, task_of
from unified.train.recipe import Source

from unified.layout.layout import IGNORED, Layout
from unified.orders import plan_for
from unified.pretrained import load_processor
from unified.stream.processor import Processor, frames
from unified.stream.segments import Kind
from unified.stream.vocabulary import Vocabulary

SHARD = 250
Places = dict[tuple[tuple[int, ...], bool], list[dict[str, Any]]]
VERSION = 1  # of the format and of the tasks' meaning: raise it when either changes


@dataclass(frozen=True)
class Tokenizers:
    """Where the tokenizers lie, as plain data that travels to other processes. `text` may be "bytes";
    `order`: see `make_processor`;
    `start`: the folder of a model whose special and appended ids are kept, if any; with `text` "" its
    tokenizers are taken whole."""

    text: str
    visual: str
    sides: tuple[int, ...]
    max_side: int
    merge: int = 0
    frame_sides: tuple[int, ...] | None = None
    start: str = ""
    order: str = ""

    @staticmethod
    def of_model(folder: str | Path) -> Tokenizers:
        """Those of a saved model."""
        return Tokenizers(text="", visual="", sides=(), max_side=0, start=str(folder))

    def processor(self) -> Processor:
        return _processor(self)

    def digest(self) -> str:
        """Of everything that decides the ids of a sample: a decoder may learn on without new data."""
        processor = self.processor()
        sizes: list[Any] = [VERSION, self.sides, self.max_side]
        sizes += [] if self.frame_sides is None else [self.frame_sides]
        sizes += [self.order] if self.order else []
        options = getattr(processor.visual, "head_options", None)  # of a tokenizer of latents
        sizes += [] if options is None else [options]
        if not self.text:
            layout = (processor.order, processor.sides, processor.frame_sides)
            sizes += [*layout, sorted(processor.vocabulary.to_dict().items())]
        words = processor.vocabulary
        if words.tail or words.named:  # else the ids are those of data prepared before there were any
            sizes += [words.orders, words.tail, sorted(words.named.items())]
        hasher = hashlib.sha256(json.dumps(sizes).encode())
        text: Any = processor.stream.text
        hasher.update(text.backend_tokenizer.to_str().encode())
        weights = processor.visual.state_dict() if processor.visual is not None else {}  # type: ignore[attr-defined]
        for name, value in sorted(weights.items()):
            if name.startswith(("decoder.", "post_quant_conv.")):
                continue
            hasher.update(name.encode() + value.cpu().numpy().tobytes())
        return hasher.hexdigest()


@lru_cache(maxsize=2)
def _processor(tokenizers: Tokenizers) -> Processor:
    if not tokenizers.text:
        return load_processor(tokenizers.start)
    text = bytes_or(tokenizers.text)
    names = ("sides", "max_side", "merge", "frame_sides", "order")
    options = {name: getattr(tokenizers, name) for name in names}
    like = vocabulary_of(tokenizers.start) if tokenizers.start else None
    return make_processor(text, load_visual(tokenizers.visual), like=like, **options)


class Prepared:
    """The samples of one source: `lengths` [n], `targets` [n, 3], and the ids of each."""

    def __init__(self, folder: Path, shards: int) -> None:
        self.maps = [np.load(_path(folder, k, "ids"), mmap_mode="r") for k in range(shards)]
        rows = [np.load(_path(folder, k, "rows")) for k in range(shards)]
        self.table = np.concatenate(rows)
        self.shard = np.repeat(np.arange(shards), [len(part) for part in rows])
        self.lengths = self.table[:, 1] - self.table[:, 0]
        self.targets = self.table[:, 2:]

    def __len__(self) -> int:
        return len(self.table)

    def ids(self, number: int) -> list[int]:
        start, stop = self.table[number, :2]
        return self.maps[self.shard[number]][start:stop].tolist()


def prepare(
    source: Source, seed: int, split: str, tokenizers: Tokenizers, root: Path, *, workers: int = 1
) -> Prepared:
    """The samples of a source as ids, made first where they are not yet in `root`."""
    key = [source.task, dict(source.options), seed, split, tokenizers.digest()]
    key += [source.content] if source.content else []
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    folder = root / f"{source.task}-{split}-{digest[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    shards = -(-source.samples // SHARD)
    missing = [k for k in range(shards) if not _path(folder, k, "rows").is_file()]
    if source.samples % SHARD and shards - 1 not in missing:
        last = np.load(_path(folder, shards - 1, "rows"))
        missing += [shards - 1] if len(last) < source.samples - SHARD * (shards - 1) else []
    if missing and source.content and task_of(source, seed).fingerprint() != source.content:
        raise ValueError(f"{source.label}: the data on disk have changed since the recipe was made")
    jobs = [(source, seed, split, tokenizers, folder, k) for k in missing]
    for _ in mapped(_shard, jobs, workers):
        pass
    return Prepared(folder, shards)


def whole_shards(samples: int, share: float) -> int:
    """The first `share` of so many samples, filled up to a whole shard."""
    return min(samples, -(-round(samples * share) // SHARD) * SHARD)


def _shard(job: tuple[Source, int, str, Tokenizers, Path, int]) -> int:
    source, seed, split, tokenizers, folder, number = job
    processor, task = tokenizers.processor(), _task(json.dumps([source.task, dict(source.options), seed]))
    start = number * SHARD
    samples = [task.sample(index, split) for index in range(start, min(start + SHARD, source.samples))]
    try:
        encoded = encode(samples, processor)
    except ValueError as error:
        raise ValueError(f"{source.label}: {error}") from None
    ends = np.cumsum([len(ids) for ids in encoded])
    starts = np.append([0], ends[:-1])
    counts = [target_counts(ids, processor.vocabulary) for ids in encoded]
    flat = np.concatenate([np.asarray(ids) for ids in encoded]).astype(id_type(processor.vocabulary.size))
    _write(_path(folder, number, "ids"), flat)
    _write(_path(folder, number, "rows"), np.column_stack([starts, ends, counts]).astype(np.int64))
    return number


def id_type(size: int) -> type[np.integer[Any]]:
    """The smallest type of ids of a vocabulary of so many that is kept."""
    if size <= 2**16:
        return np.uint16
    return np.int32 if size <= 2**31 else np.int64


@lru_cache(maxsize=2)
def _task(key: str) -> Any:
    """A task read once for all its shards; one of data on disk may take long to open."""
    name, options, seed = json.loads(key)
    return task_of(Source(task=name, options=options), seed)


def encode(samples: Sequence[Sample], processor: Processor, batch: int = 32) -> list[list[int]]:
    """Ids of samples; their pictures are encoded in batches of equal size. Samples that are ids already are
    checked: ValueError for what is no stream of this vocabulary."""
    places: Places = {}
    ready = [_ready(sample, processor.vocabulary) for sample in samples]
    pairs = zip(samples, ready, strict=True)
    messages = [_copied(sample.messages if ids is None else [], places) for sample, ids in pairs]
    for (_, frame), items in places.items():
        for start in range(0, len(items), batch):
            _code(items[start : start + batch], processor, frame)
    return [processor.encode(talk) if ids is None else ids for talk, ids in zip(messages, ready, strict=True)]


def _ready(sample: Sample, vocabulary: Vocabulary) -> list[int] | None:
    """The ids of a sample that consists of ids (`tasks.outside.stored`), or None."""
    found = [item["ids"] for item in sample.messages[-1]["content"] if item["type"] == "ids"]
    if not found:
        return None
    ids, where = found[0], sample.meta.get("source", sample.task)
    if not ids or min(ids) < 0 or max(ids) >= vocabulary.size or ids[0] != vocabulary.begin:
        raise ValueError(
            f"{where}: no stream of this model's {vocabulary.size} ids, which begins with <|begin|>"
        )
    try:
        Layout.of([ids], vocabulary)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return ids


def _copied(messages: list[dict[str, Any]], places: Places) -> list[dict[str, Any]]:
    """The messages with copies of their picture items, which are noted in `places` by size and by whether
    they are frames."""
    found = []
    for message, row in zip(messages, frames(messages), strict=True):
        content = []
        for item, frame in zip(message["content"], row, strict=True):
            if item["type"] == "image":
                drawn = message["role"] == "assistant"
                item = {**item, "drawn": drawn}
                places.setdefault((item["image"].shape, drawn and frame), []).append(item)
            content.append(item)
        found.append({**message, "content": content})
    return found


@torch.no_grad()
def _code(items: list[dict[str, Any]], processor: Processor, frame: bool) -> None:
    """Replace pixels by codes, in place: what `Processor.image_item` does for one picture at a time."""
    visual = processor.visual
    images = torch.cat([processor.pixels(item["image"]) for item in items])
    grid = (images.shape[-2] // visual.stride, images.shape[-1] // visual.stride)  # type: ignore[union-attr]
    schedule = processor.schedule(grid, frame=frame)
    plan = plan_for(processor.order, schedule)
    codes = torch.cat(visual.encode(images, schedule), dim=1)  # type: ignore[union-attr]
    for item, row in zip(items, codes, strict=True):
        drawn = item.pop("drawn")
        del item["image"]
        shapes = schedule if drawn else plan.read_shapes
        item |= {"codes": (row if drawn else row[plan.read]).tolist(), "shapes": [list(s) for s in shapes]}
        if drawn:
            item["order"] = processor.order


def target_counts(ids: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    """How many targets of text, action and image a sample has."""
    table = torch.tensor([list(ids)])
    layout = Layout.of(table, vocabulary)
    kinds = target_kinds(layout)[layout.labels(table) != IGNORED]
    return torch.bincount(kinds, minlength=3)[:3].tolist()


def target_kinds(layout: Layout) -> torch.Tensor:
    """[B, T]: 0 text (with the choice to draw), 1 action, 2 image code."""
    kinds = (layout.index.kind == Kind.ACTION).long()
    return kinds.masked_fill(layout.step >= 0, 2)


def _path(folder: Path, number: int, kind: str) -> Path:
    return folder / f"{number:05d}.{kind}.npy"


def _write(path: Path, array: np.ndarray) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    with partial.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
