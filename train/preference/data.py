"""Pairs of replies from files and folders as rows of ids, every bad row named before training starts.

A source is a `.json` or `.jsonl` of records in any spelling that `unified.tasks.outside.preference` reads, a
Hugging Face dataset on disk with such columns, or what `python -m unified.train pairs` writes: records of
ids,

    {"prompt_ids": [...], "chosen_ids": [...], "rejected_ids": [...], "tokenizer": "9f2c...", ...}

where `tokenizer` says whose ids they are. Ids are kept rather than pictures: decoding and encoding an image
again would not give the codes that were drawn.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from unified.tasks.outside.faults import Faults
from unified.tasks.outside.numbered import read_numbered
from unified.tasks.outside.preference import preference

from unified.layout.layout import IGNORED, Layout
from unified.stream.processor import Processor
from unified.stream.segments import segments

IDS = ("prompt_ids", "chosen_ids", "rejected_ids")
NOTES = ("tokenizer", "task", "index", "scores", "by")  # of records of ids, besides the ids
SHOWN = 5  # bad rows that a message names


@dataclass(frozen=True)
class Record:
    """One record of a source: where it stands, its value, and the folder that its images are named in."""

    where: str
    value: Any
    folder: Path


def read_pairs(
    sources: Sequence[str | Path],
    processor: Processor,
    *,
    images: str | Path | None = None,
    size: int | None = None,
    skip: bool = False,
) -> Any:
    """A `datasets.Dataset` with the columns `prompt_ids`, `chosen_ids`, `rejected_ids`. `images`: the folder
    that images are named in (default: that of the file); `size`: side of the square that they are cut to.
    ValueError, in one line, names the bad rows; with `skip` they are left out with a warning."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    faults, rows = Faults("skip"), []
    faults.source = ", ".join(Path(source).name for source in sources)
    tokenizer = tokenizer_digest(processor)
    for source in sources:
        for record in records(Path(source), images, faults):
            with faults.at(record.where):
                rows.append(pair_ids(record, processor, tokenizer, size, faults))
    _report(faults.lines, skip)
    if faults.note:
        warnings.warn(faults.note, stacklevel=2)
    if not rows:
        raise ValueError(f"no pairs in {', '.join(map(str, sources)) or 'no source'}")
    return Dataset.from_list(rows)


def _report(lines: Sequence[str], skip: bool) -> None:
    if not lines:
        return
    more = len(lines) - SHOWN
    shown = "; ".join(lines[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
    if not skip:
        raise ValueError(f"{len(lines)} bad row{'s' * (len(lines) > 1)}: {shown}")
    warnings.warn(f"left out: {shown}", stacklevel=3)


# Records ----------------------------------------------------------------------------------------------------


def records(path: Path, images: str | Path | None, faults: Faults) -> Iterator[Record]:
    """The records of a file or of a dataset on disk."""
    if path.is_dir():
        yield from _stored(path, images)
        return
    folder = Path(images) if images is not None else path.parent
    for found in read_numbered(path, faults):
        yield Record(found.where, found.value, folder)


def _stored(path: Path, images: str | Path | None) -> Iterator[Record]:
    """Rows of a Hugging Face dataset on disk; columns that are empty in a row are left out of it."""
    for number, row in enumerate(load_rows(path)):
        value = {name: _opened(item) for name, item in row.items() if item is not None}
        yield Record(f"{path.name}[{number}]", value, Path(images) if images is not None else path)


def load_rows(path: Path) -> Iterable[Mapping[str, Any]]:
    """A dataset saved with `save_to_disk` (of several splits: "train"), or parquet files in the folder or in
    its `data/`, as `python -m unified.tasks build` writes them. ValueError for another folder."""
    from datasets import Dataset, DatasetDict, load_from_disk

    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        found = load_from_disk(str(path))
        if isinstance(found, DatasetDict):
            if "train" not in found:
                raise ValueError(
                    f"{path}: no split 'train' among {', '.join(found)}: name one split's folder"
                )
            return found["train"]
        return found
    files = sorted(path.glob("data/*.parquet")) or sorted(path.glob("*.parquet"))
    if not files:
        raise ValueError(f"{path}: no dataset of Hugging Face (save_to_disk, or parquet files)")
    return Dataset.from_parquet([str(file) for file in files], cache_dir=None, keep_in_memory=True)


def _opened(item: Any) -> Any:
    """Columns of JSON as what they say, pictures as the bytes of a file."""
    if isinstance(item, list):
        return [_opened(part) for part in item]
    if isinstance(item, dict):
        return {key: _opened(part) for key, part in item.items()}
    if isinstance(item, Image.Image):
        buffer = io.BytesIO()
        item.save(buffer, "PNG")
        return {"bytes": buffer.getvalue()}
    if isinstance(item, str) and item[:1] in "[{":
        try:
            return json.loads(item)
        except ValueError:
            return item
    return item


# Ids --------------------------------------------------------------------------------------------------------


def pair_ids(
    record: Record, processor: Processor, tokenizer: str, size: int | None, faults: Faults
) -> dict[str, list[int]]:
    """The row of ids of a record; keys that are not used are noted in `faults`. ValueError says what is wrong
    with it."""
    value = record.value
    if isinstance(value, dict) and IDS[0] in value:
        row = _given_ids(value, tokenizer)
    else:
        row = _encoded(preference(value, record.folder, "", faults), processor, size)
    check_pair(row, processor)
    return row


def _given_ids(value: Mapping[str, Any], tokenizer: str) -> dict[str, list[int]]:
    unknown = [name for name in value if name not in (*IDS, *NOTES)]
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}: known are {', '.join((*IDS, *NOTES))}")
    for name in IDS:
        ids = value.get(name)
        if not isinstance(ids, list) or not all(type(token) is int for token in ids):
            raise ValueError(f"{name} must be a list of whole numbers")
    if value.get("tokenizer", tokenizer) != tokenizer:
        raise ValueError(
            f"its ids are of the tokenizers {value['tokenizer']}, the model's are {tokenizer}: make the "
            "pairs with this model"
        )
    return {name: list(value[name]) for name in IDS}


def _encoded(found: Any, processor: Processor, size: int | None) -> dict[str, list[int]]:
    messages = found.messages(size)
    prompt = processor.encode(messages["prompt"], prompt=True)
    row = {"prompt_ids": prompt}
    for side in ("chosen", "rejected"):
        ids = processor.encode([*messages["prompt"], *messages[side]])
        row[f"{side}_ids"] = ids[len(prompt) :]
    return row


def check_pair(row: Mapping[str, Sequence[int]], processor: Processor) -> None:
    """ValueError for ids that are no stream, and replies that are empty or equal."""
    words, prompt = processor.vocabulary, list(row["prompt_ids"])
    if not prompt or prompt[-1] != words.assistant:
        raise ValueError("the prompt must end where the assistant's turn begins")
    if row["chosen_ids"] == row["rejected_ids"]:
        raise ValueError("chosen and rejected are equal")
    for side in ("chosen", "rejected"):
        ids = [*prompt, *row[f"{side}_ids"]]
        try:
            segments(ids, words)
            table = torch.tensor([ids])
            answered = Layout.of(table, words).labels(table)[0, len(prompt) :]
        except ValueError as error:
            raise ValueError(f"{side}: {error}") from None
        targets = answered[(answered != IGNORED) & (answered != words.end)]
        if not len(targets):
            raise ValueError(f"{side} is empty")
        if words.placeholders.keys() & set(ids):
            raise ValueError(f"{side} holds continuous values, which pairs cannot carry yet")


def tokenizer_digest(processor: Processor) -> str:
    """12 hexadecimal digits of everything that decides what the ids of a stream mean."""
    hasher = hashlib.sha256(json.dumps(processor.vocabulary.to_dict(), sort_keys=True).encode())
    backend = getattr(processor.stream.text, "backend_tokenizer", None)
    hasher.update(backend.to_str().encode() if backend is not None else b"")
    visual: Any = processor.visual
    for name, value in sorted(visual.state_dict().items()) if visual is not None else ():
        hasher.update(name.encode() + value.detach().cpu().float().contiguous().numpy().tobytes())
    return hasher.hexdigest()[:12]
