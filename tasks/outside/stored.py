"""Hugging Face data sets on disk: what `save_to_disk` or `python -m unified.tasks build` has written, or a
folder of parquet files.

The columns say what a row is, in this order:

    messages (and images)        turns as text or as JSON, as `unified.tasks.packing` writes them or in the
                                 form of chat templates; image items stand for the next of `images` or `image`
    prompt, completion           turns of both, or texts (and images)
    image, text (or caption)     an image with a caption, to be described or drawn (`form`)
    ids                          ready ids of the model's vocabulary, as `build` writes them with a processor
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from unified.tasks.outside.faults import Faults
from unified.tasks.outside.images import read_image
from unified.tasks.outside.placeholders import PLACEHOLDER
from unified.tasks.outside.sources import Embedded

if TYPE_CHECKING:
    from datasets import Dataset

PROMPT = "Describe the picture."
ROLES = ("system", "user", "assistant")
Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Record:
    """Row `number` of a table, read when it is asked for; `build` makes messages of it in which image items
    hold their bytes."""

    table: Dataset
    number: int
    build: Callable[[Mapping[str, Any]], Messages]
    where: str

    @property
    def turns(self) -> Messages:
        return self.build(self.table[self.number])

    def messages(self, size: int | None = None) -> Messages:
        """With images decoded, see `images.read_image`; a fault names the row."""
        try:
            return [
                {**turn, "content": [_decoded(item, size) for item in turn["content"]]} for turn in self.turns
            ]
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from None

    def content(self) -> bytes:
        """What decides its split: everything that a model sees of it."""
        items = [[turn["role"], *map(_hashable, turn["content"])] for turn in self.turns]
        return json.dumps(items, sort_keys=True, default=str).encode()


def read_stored(
    path: str | Path, rows: str = "train", form: str = "read", faults: Faults | None = None
) -> Iterator[Record]:
    """The rows of a data set. Raises ValueError, in one line, for a folder that is none, for columns that say
    nothing and, unless `faults` skips, for the first bad row."""
    faults = faults or Faults()
    path = Path(path)
    table = open_stored(path, rows)
    build = _builder(path, table.column_names, form)
    found = 0
    for number in range(len(table)):
        record = Record(table, number, build, f"{path.name} row {number}")
        good = False
        with faults.at(record.where):
            good = bool(record.turns)
        if good:
            yield record
            found += 1
    if not found and not faults.lines:
        raise ValueError(f"{path}: the data set has no rows")
    faults.warn()


def is_stored(path: Path) -> bool:
    """Whether a folder looks like a data set."""
    names = ("dataset_info.json", "dataset_dict.json", "manifest.json")
    return any((path / name).is_file() for name in names) or any(path.rglob("*.parquet"))


def open_stored(path: Path, rows: str = "train") -> Dataset:
    """The data set of a folder with its images as bytes; `rows` chooses among several splits."""
    from datasets import Dataset, DatasetDict, Image, List, load_from_disk
    from unified.tasks.dataset import CONFIG, MANIFEST, read_dataset

    if not path.is_dir():
        raise ValueError(f"{path}: not a folder")
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        found = load_from_disk(str(path))
        if isinstance(found, DatasetDict):
            if rows not in found:
                raise ValueError(f"{path} has no split {rows!r}: it has {', '.join(found)}")
            found = found[rows]
    elif (path / MANIFEST).is_file() or (path / CONFIG).is_file():
        found = read_dataset(path)
    else:
        files = sorted(map(str, path.rglob("*.parquet")))
        chosen = [name for name in files if Path(name).name.startswith(rows)] or files
        if not chosen:
            raise ValueError(f"{path}: no data set (save_to_disk, unified.tasks build, or parquet files)")
        found = Dataset.from_parquet(chosen)
    for name, feature in found.features.items():
        if isinstance(feature, Image):
            found = found.cast_column(name, Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), Image):
            found = found.cast_column(name, List(Image(decode=False)))
    return found


def _builder(path: Path, columns: Sequence[str], form: str) -> Callable[[Mapping[str, Any]], Messages]:
    """What makes messages of a row with these columns."""
    text = next((name for name in ("text", "caption") if name in columns), None)
    if "messages" in columns:
        return lambda row: _turns(_parsed(row["messages"]), _images(row), "messages")
    if {"prompt", "completion"} <= set(columns):
        return _prompted
    if "image" in columns and text:
        return lambda row: _captioned(row, row[text], form)
    if "ids" in columns:
        return lambda row: _of_ids(row["ids"])
    known = "messages (and images), prompt and completion, image and text, or ids"
    raise ValueError(f"{path}: columns {', '.join(columns)}: what is read are {known}")


def _of_ids(ids: Sequence[int]) -> Messages:
    """A sample that needs no tokenizer: `train.prepared` takes its ids as they are."""
    return [{"role": "assistant", "content": [{"type": "ids", "ids": list(ids)}]}]


def _prompted(row: Mapping[str, Any]) -> Messages:
    images = _images(row)
    asked = _turns(_as_turns(row["prompt"], "user"), images, "prompt", whole=False)
    return asked + _turns(_as_turns(row["completion"], "assistant"), images, "completion")


def _captioned(row: Mapping[str, Any], text: Any, form: str) -> Messages:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"the caption must be a text, got {text!r:.60}")
    image, words = {"type": "image", "bytes": _bytes(row["image"])}, {"type": "text", "text": text.strip()}
    asked, answer = (
        ([image, {"type": "text", "text": PROMPT}], [words]) if form == "read" else ([words], [image])
    )
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"messages is not JSON: {error}") from None


def _as_turns(value: Any, role: str) -> Any:
    value = _parsed(value) if isinstance(value, str) and value.lstrip().startswith("[{") else value
    return [{"role": role, "content": value}] if isinstance(value, str) else value


def _turns(value: Any, images: Iterator[bytes], name: str, *, whole: bool = True) -> Messages:
    """Messages of plain data, with the bytes of their images. `whole`: they must end with the assistant, and
    no image may be left."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name} must be a list of turns with at least one")
    turns = []
    for number, turn in enumerate(value):
        where = f"{name}[{number}]"
        if not isinstance(turn, dict) or turn.get("role") not in ROLES:
            raise ValueError(f"{where}: a turn has a role (one of {', '.join(ROLES)}) and a content")
        turns.append({"role": turn["role"], "content": _content(turn.get("content"), images, where)})
    if whole and turns[-1]["role"] != "assistant":
        raise ValueError(f"{name} must end with a turn of the assistant")
    if whole and next(images, None) is not None:
        raise ValueError(f"{name} has fewer image items than the row has images")
    return turns


def _content(value: Any, images: Iterator[bytes], where: str) -> list[dict[str, Any]]:
    if isinstance(value, str):
        pieces = value.split(PLACEHOLDER)
        value = [{"type": "text", "text": pieces[0]}]
        for piece in pieces[1:]:
            value += [{"type": "image"}, {"type": "text", "text": piece}]
        value = [item for item in value if item["type"] == "image" or item["text"].strip()]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: the content is empty")
    return [_item(item, images, where) for item in value]


def _item(item: Any, images: Iterator[bytes], where: str) -> dict[str, Any]:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind == "text" and isinstance(item.get("text"), str):
        return {"type": "text", "text": item["text"]}
    if kind == "image":
        found = next(images, None)
        if found is None:
            raise ValueError(f"{where}: more image items than the row has images")
        return {"type": "image", "bytes": found}
    if kind == "action" and isinstance(item.get("action"), dict):
        camera = np.array(item["action"].get("camera", (0.0, 0.0)), np.float32)
        return {"type": "action", "action": {**item["action"], "camera": camera}}
    raise ValueError(f"{where}: an item is text, image or action, got {item!r:.60}")


def _images(row: Mapping[str, Any]) -> Iterator[bytes]:
    given = row.get("images", row.get("image"))
    given = given if isinstance(given, list) else [] if given is None else [given]
    return iter([_bytes(image) for image in given])


def _bytes(image: Any) -> bytes:
    if isinstance(image, dict) and image.get("bytes"):
        return image["bytes"]
    if isinstance(image, dict) and image.get("path"):
        try:
            return Path(image["path"]).read_bytes()
        except OSError as error:
            raise ValueError(f"cannot read image {image['path']!r}: {error.strerror}") from None
    raise ValueError("an image of the row is missing")


def _decoded(item: dict[str, Any], size: int | None) -> dict[str, Any]:
    if "bytes" not in item:
        return item
    return {"type": "image", "image": read_image(Embedded(item["bytes"], "of the row"), size)}


def _hashable(item: dict[str, Any]) -> Any:
    return hashlib.sha256(item["bytes"]).hexdigest() if "bytes" in item else item
