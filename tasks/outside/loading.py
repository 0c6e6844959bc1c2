"""Reads data of others to the end, images included, to find every fault that building or training would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from unified.tasks.outside.captions import Caption, read_captions
from unified.tasks.outside.faults import Faults
from unified.tasks.outside.llava import read_llava
from unified.tasks.outside.preference import read_preferences

RECORDS = {"llava": read_llava, "preference": read_preferences}
KINDS = ("captions", *RECORDS, "recordings", "mazes")


def read_all(kind: str, path: Path, images: Path | None, faults: Faults) -> int:
    """Loads every record of a kind of `KINDS`; returns how many are good."""
    if kind in RECORDS:
        return sum(1 for _ in loadable(RECORDS[kind](path, images, faults), faults))
    if images is not None:
        raise ValueError(f"{kind} lie in one folder with their images: leave --images out")
    if kind == "captions":
        return sum(1 for _ in loadable(read_captions(path, faults), faults))
    return _read_mazes(path, faults) if kind == "mazes" else _read_recordings(path, faults)


def loadable(records: Iterable[Any], faults: Faults) -> Iterator[Any]:
    """The records whose images can be read; the others are faults. `faults` must be one that skips."""
    for record in records:
        before = len(faults.lines)
        with faults.at(""):  # a record names its line itself
            record.image() if isinstance(record, Caption) else record.messages()
        if len(faults.lines) == before:
            yield record


def _read_mazes(folder: Path, faults: Faults) -> int:
    from unified.tasks.mazes.records import INDEX, numbered_records, record_messages

    good = 0
    for number, record in numbered_records(folder, faults):
        before = len(faults.lines)
        with faults.at(f"{folder / INDEX} line {number}"):
            record_messages(record, folder)
        good += len(faults.lines) == before
    return good


def _read_recordings(folder: Path, faults: Faults) -> int:
    """Every line and frame of a folder of recordings; one recording is one record."""
    from unified.envs.recordings import RecordingStream, find_recordings

    good = 0
    for stem in find_recordings(folder):
        before = len(faults.lines)
        with faults.at(""):
            stream = RecordingStream(stem)
            steps = sum(1 for _ in stream)
            faults.lines += stream.faults
            faults.lines += [] if steps else [f"{stem.name}: the video holds no frame"]
        good += len(faults.lines) == before
    return good
