"""Traces from files: records of a user's own in the published format, as a task to train on.

A folder holds `records.jsonl` and the images it names (`records`). Records of one image each that continue
one another (the form of the second training stage) are joined to the trace they were cut from, so both forms
train the same way. A malformed record, or an image that cannot be read, is named by file and line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified.tasks.mazes.metrics import score_text
from unified.tasks.mazes.records import INDEX, PLACEHOLDER, Record, numbered_records
from unified.tasks.mazes.trace import text_of
from unified.tasks.outside.faults import Faults
from unified.tasks.outside.images import check_size, find_image, read_image
from unified.tasks.outside.outside_tasks import OutsideTask, check_shares
from unified.tasks.sample import Sample

Content = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Texts with `<image>` placeholders, and the files of their images. `actions`: the label of the metrics,
    empty where the records have none. `where`: file and line of the first record."""

    question: str
    answer: str
    question_images: tuple[Path, ...]
    answer_images: tuple[Path, ...]
    actions: tuple[str, ...]
    where: str

    def messages(self, size: int | None = None) -> list[dict[str, Any]]:
        """The conversation, images loaded: as they are, or their middle square at a side of `size` pixels.
        ValueError, with file and line, for one that cannot be read."""
        try:
            asked = _content(self.question, self.question_images, size)
            told = _content(self.answer, self.answer_images, size)
        except (ValueError, OSError) as error:
            raise ValueError(f"{self.where}: {error}") from None
        return [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]


def read_traces(folder: str | Path, faults: Faults | None = None) -> Iterator[Trace]:
    """The traces of a folder in their order. ValueError, with file and line, for a malformed record, one
    without an answer, or one that names a missing image or one outside the folder, unless `faults` skips."""
    folder, faults = Path(folder).expanduser(), faults or Faults()
    whole: Trace | None = None
    for number, record in numbered_records(folder, faults):
        finished, where = None, f"{folder / INDEX} line {number}"
        with faults.at(where):
            if not record.label_text.strip():
                raise ValueError("label_text is empty: there is nothing to learn")
            longer = None if whole is None else _continued(whole, record, folder)
            finished, whole = (None, longer) if longer else (whole, _trace(record, folder, where))
        if finished is not None:
            yield finished
    if whole is not None:
        yield whole


def _trace(record: Record, folder: Path, where: str) -> Trace:
    return Trace(
        question=record.input_text,
        answer=record.label_text,
        question_images=_files(folder, record.input_img),
        answer_images=_files(folder, record.label_img),
        actions=tuple(record.label_actions),
        where=where,
    )


def _continued(before: Trace, record: Record, folder: Path) -> Trace | None:
    """The trace with the part of a record whose input is all of it; None for another trace's record."""
    images = before.question_images + before.answer_images
    if not record.total_step or record.input_text != before.question + before.answer:
        return None
    if _files(folder, record.input_img) != images:
        return None
    return Trace(
        question=before.question,
        answer=before.answer + record.label_text,
        question_images=before.question_images,
        answer_images=before.answer_images + _files(folder, record.label_img),
        actions=before.actions,
        where=before.where,
    )


def _files(folder: Path, names: list[str]) -> tuple[Path, ...]:
    return tuple(find_image(folder, name) for name in names)


def _content(text: str, images: tuple[Path, ...], size: int | None) -> Content:
    first, *pieces = text.split(PLACEHOLDER)
    content: Content = [{"type": "text", "text": first}]
    for path, piece in zip(images, pieces, strict=True):
        content += [
            {"type": "image", "image": read_image(path, size)},
            {"type": "text", "text": piece},
        ]
    return [item for item in content if item["type"] == "image" or item["text"]]


@dataclass(frozen=True, kw_only=True)
class TracesConfig:
    """`folder`: of the records. `size`: side of the middle square of every image, none for images as they
    are. `on_error`: "raise" or "skip" bad records."""

    folder: str
    size: int | None = 64
    on_error: str = "raise"
    validation: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        check_size(self.size)
        Faults(self.on_error)
        check_shares(self.validation, self.test)


class Traces(OutsideTask):
    """Traces of text and pictures in the published records of MazePlanning (option `folder`)."""

    name = "traces"

    def __init__(self, config: TracesConfig) -> None:
        super().__init__(config)

    def read(self, faults: Faults) -> Any:
        return read_traces(self.config.folder, faults)

    def content(self, record: Trace) -> bytes:
        texts = f"{record.question}\0{record.answer}".encode()
        files = record.question_images + record.answer_images
        return texts + b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)

    def messages(self, record: Trace) -> list[dict[str, Any]]:
        return record.messages(self.config.size)

    def sample(self, index: int, split: str = "train") -> Sample:
        sample = super().sample(index, split)
        records = self._records[split]
        sample.meta["actions"] = list(records[index % len(records)].actions)
        return sample

    def score(self, sample: Sample, answer: Content) -> dict[str, float]:
        """Beside what every outside task has: `success` and `progress` of the published metrics, where the
        records have actions."""
        scores = super().score(sample, answer)
        if sample.meta["actions"]:
            found = score_text(text_of(answer), sample.meta["actions"])
            scores |= {"success": float(found.accuracy == 1), "progress": found.accuracy}
        return scores


TASKS: dict[str, Any] = {Traces.name: Traces}
