"""Records of MazePlanning on disk: `records.jsonl` beside a folder of PNG files.

The fields are those of the published data. `<image>` in a text stands for the next image of its list;
`label_actions` is flat; `rl_label_img` holds the target states, the last being the solved maze.
`total_step` is the number of states already in the input: the published evaluator takes the full label from
the record where it is 0. A record holds the whole trace, or (`per_image`, the second training stage) the
next part alone with all earlier parts in its input, and then `label_actions` and `rl_label_img` hold what
remains.

A sample of `maze_text` has no state images, so both image lists are empty. Files are named
`<number>_size_<rows>_<columns>_<state>.png`; state 0 is the question.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from PIL import Image
from unified.tasks.mazes.trace import images_of
from unified.tasks.outside.faults import Faults
from unified.tasks.sample import Sample
from unified.tokenizers.picture_files import open_picture

from unified.text_files import at_home, check_unicode, parse_json, read_lines

INDEX, IMAGES = "records.jsonl", "images"
PLACEHOLDER = "<image>"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of the index; images are paths relative to its folder."""

    input_text: str
    label_text: str
    input_img: list[str]
    label_img: list[str]
    label_actions: list[str]
    rl_label_img: list[str]
    total_step: int

    def __post_init__(self) -> None:
        for side in ("input", "label"):
            wanted, given = (
                getattr(self, f"{side}_text").count(PLACEHOLDER),
                len(getattr(self, f"{side}_img")),
            )
            if wanted != given:
                raise ValueError(f"{side}_text has {wanted} {PLACEHOLDER} but {side}_img names {given} files")


def write_records(samples: Iterable[Sample], folder: str | Path, *, per_image: bool = False) -> int:
    """Writes samples as records and returns how many records there are. Refuses a folder that already has
    records (FileExistsError); the index appears only when everything is written."""
    folder = Path(folder)
    if (folder / INDEX).exists():
        raise FileExistsError(f"{folder / INDEX} exists: choose another folder")
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{INDEX}.part"
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as index:
            count = sum(_write_sample(*item, folder, index, per_image) for item in enumerate(samples))
        if not count:
            raise ValueError("no samples to write")
        unfinished.rename(folder / INDEX)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def read_records(folder: str | Path, faults: Faults | None = None) -> list[Record]:
    """The records of a folder (`numbered_records`)."""
    return [record for _, record in numbered_records(folder, faults)]


def numbered_records(folder: str | Path, faults: Faults | None = None) -> list[tuple[int, Record]]:
    """The records of a folder with the numbers of their lines, counted from 1. Raises ValueError, with the
    line, for a malformed one or a missing image, unless `faults` skips; other fields than ours are left
    alone, with one warning."""
    folder, faults = at_home(folder), faults or Faults()
    faults.source = INDEX
    records = []
    try:
        lines = read_lines(folder / INDEX)
    except ValueError as error:
        raise ValueError(f"cannot read {error}") from None
    for number, line in enumerate(lines, start=1):
        with faults.at(f"{folder / INDEX} line {number}"):
            record = _parse(line, faults)
            for path in record.input_img + record.label_img + record.rl_label_img:
                if not (folder / path).is_file():
                    raise ValueError(f"image {path:.80} is missing")
            records.append((number, record))
    faults.warn()
    return records


def read_images(folder: str | Path, paths: Sequence[str]) -> list[np.ndarray]:
    """The images of a record's list, uint8 [H, W, 3] each."""
    return [open_picture(Path(folder) / path).image for path in paths]


def record_messages(record: Record, folder: str | Path) -> list[dict[str, Any]]:
    """The conversation of a record, images loaded."""
    return [
        {"role": "user", "content": _content(record.input_text, read_images(folder, record.input_img))},
        {"role": "assistant", "content": _content(record.label_text, read_images(folder, record.label_img))},
    ]


def whole_record(sample: Sample, paths: Sequence[str]) -> Record:
    """One record for the trace of a sample; `paths` name the images of all its messages in order."""
    question, answer = (message["content"] for message in sample.messages)
    asked = len(images_of(question))
    return Record(
        input_text=_text(question),
        label_text=_text(answer),
        input_img=list(paths[:asked]),
        label_img=list(paths[asked:]),
        label_actions=list(sample.meta["actions"]),
        rl_label_img=list(paths[asked:]),
        total_step=0,
    )


def split_record(sample: Sample, paths: Sequence[str]) -> list[Record]:
    """One record per state image to be predicted; the last one also has the closing text. Raises ValueError
    for a sample without state images."""
    whole = whole_record(sample, paths)
    asked, states = len(whole.input_img), len(whole.label_img)
    if not states:
        raise ValueError(f"a sample of {sample.task!r} has no state image: it cannot be split per image")
    *pieces, closing = whole.label_text.split(PLACEHOLDER)
    pieces = [piece + PLACEHOLDER for piece in pieces]
    return [
        Record(
            input_text=whole.input_text + "".join(pieces[:step]),
            label_text=pieces[step] + (closing if step == states - 1 else ""),
            input_img=list(paths[: asked + step]),
            label_img=[paths[asked + step]],
            label_actions=whole.label_actions[sum(sample.meta["parts"][:step]) :],
            rl_label_img=whole.rl_label_img[step:],
            total_step=step,
        )
        for step in range(states)
    ]


def _write_sample(number: int, sample: Sample, folder: Path, index: TextIO, per_image: bool) -> int:
    _check_sample(sample)
    paths = _write_images(sample, folder, number)
    records = split_record(sample, paths) if per_image else [whole_record(sample, paths)]
    for record in records:
        index.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
    return len(records)


def _check_sample(sample: Sample) -> None:
    missing = {"size", "actions", "parts"} - set(sample.meta)
    if missing:
        raise ValueError(f"a sample of {sample.task!r} lacks {', '.join(sorted(missing))} in its meta")
    if [message["role"] for message in sample.messages] != ["user", "assistant"]:
        raise ValueError(f"a record needs one question and one answer, not a sample of {sample.task!r}")


def _write_images(sample: Sample, folder: Path, number: int) -> list[str]:
    rows, columns = sample.meta["size"]
    images = [image for message in sample.messages for image in images_of(message["content"])]
    paths = [f"{IMAGES}/{number:06d}_size_{rows}_{columns}_{state}.png" for state in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(folder / path)
    return paths


def _parse(line: bytes, faults: Faults) -> Record:
    data = parse_json(line)
    names = [item.name for item in fields(Record)]
    if not isinstance(data, dict) or not set(names) <= set(data):
        raise ValueError(f"a record has the fields {', '.join(names)}")
    faults.note_unknown(name for name in data if name not in names)
    for name in names:
        if not _fits(name, data[name]):
            raise ValueError(f"field {name} has a value of the wrong type")
        check_unicode(data[name])
    return Record(**{name: data[name] for name in names})


def _fits(name: str, value: Any) -> bool:
    if name == "total_step":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if name.endswith("_text"):
        return isinstance(value, str)
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _text(content: Sequence[dict[str, Any]]) -> str:
    return "".join(item["text"] if item["type"] == "text" else PLACEHOLDER for item in content)


def _content(text: str, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for index, piece in enumerate(text.split(PLACEHOLDER)):
        if index:
            content.append({"type": "image", "image": images[index - 1]})
        if piece:
            content.append({"type": "text", "text": piece})
    return content
