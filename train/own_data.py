"""Data of one's own as sources of a recipe: what `--data` of `fine-tune` means.

An argument is `PATH`, `PATH:FORM`, or either after `NAME=`. Without a form, what lies there decides:

    read, draw, both    a folder of images with captions, to be described, drawn or (the default) both
    llava               a JSON or JSONL file of LLaVA's conversations
    dataset             a Hugging Face data set on disk; dataset-draw: rows of image and text are drawn
    traces              a folder of records of text and sketches (`unified.tasks.mazes.records`)
    recordings          a folder of .mp4 and .jsonl (VPT, BASALT): frames after actions; recordings-actions
                        and recordings-play for the other forms
    preference          a JSON or JSONL file of pairs: they are learned by a stage of its own
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified.tasks.mazes.records import INDEX
from unified.tasks.outside.faults import Faults
from unified.tasks.outside.images import SUFFIXES
from unified.tasks.outside.numbered import read_numbered
from unified.tasks.outside.stored import is_stored
from unified.tasks.registry import make
from unified.train.recipe import Source

PREFERENCE = "preference"


@dataclass(frozen=True)
class Data:
    """An argument that has been read: `form` is a key of `FORMS` or "preference"."""

    path: Path
    form: str
    name: str


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What holds for all data: `size` of the images in pixels; the share of the records that is left out of
    training as `validation`; `on_error` "skip" leaves bad records out."""

    size: int
    validation: float = 0.0
    on_error: str = "raise"


Made = tuple[str, str, dict[str, Any]]  # what is added to the name, the task, its options


def _captions(*forms: str) -> Callable[[Path, DataOptions], list[Made]]:
    def made(path: Path, options: DataOptions) -> list[Made]:
        shared = {"folder": str(path), "size": options.size, "on_error": options.on_error}
        return [(f"-{form}" if forms[1:] else "", "captions", {**shared, "form": form}) for form in forms]

    return made


def _llava(path: Path, options: DataOptions) -> list[Made]:
    return [("", "llava", {"path": str(path), "size": options.size, "on_error": options.on_error})]


def _traces(path: Path, options: DataOptions) -> list[Made]:
    return [("", "traces", {"folder": str(path), "size": options.size, "on_error": options.on_error})]


def _stored(form: str) -> Callable[[Path, DataOptions], list[Made]]:
    def made(path: Path, options: DataOptions) -> list[Made]:
        chosen = {"path": str(path), "size": options.size, "on_error": options.on_error, "form": form}
        return [("", "dataset", chosen)]

    return made


def _recordings(form: str) -> Callable[[Path, DataOptions], list[Made]]:
    def made(path: Path, options: DataOptions) -> list[Made]:
        return [("", "world_recordings", {"folder": str(path), "size": options.size, "form": form})]

    return made


FORMS: Mapping[str, Callable[[Path, DataOptions], list[Made]]] = {
    "read": _captions("read"),
    "draw": _captions("draw"),
    "both": _captions("read", "draw"),
    "llava": _llava,
    "dataset": _stored("read"),
    "dataset-draw": _stored("draw"),
    "traces": _traces,
    "recordings": _recordings("frames"),
    "recordings-actions": _recordings("actions"),
    "recordings-play": _recordings("play"),
}


def read_argument(text: str) -> Data:
    """`[NAME=]PATH[:FORM]`. ValueError, in one line, for a path that is not there, an unknown form, or data
    whose form cannot be told."""
    name, sign, rest = text.partition("=")
    if not sign or Path(text).exists():
        name, rest = "", text
    path, colon, form = rest.rpartition(":")
    if not colon or Path(rest).exists():
        path, form = rest, ""
    if not Path(path).exists():
        raise ValueError(f"{path}: no such file or folder")
    known = (*FORMS, PREFERENCE)
    if form and form not in known:
        raise ValueError(f"unknown form {form!r} of {path}: choose one of {', '.join(known)}")
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(path).resolve().stem).strip("-") or "data"
    return Data(Path(path), form or form_of(Path(path)), name or stem)


def form_of(path: Path) -> str:
    """The form of data, told by what lies there. ValueError if it cannot be told."""
    if path.is_dir():
        if is_stored(path):
            return "dataset"
        if (path / INDEX).is_file():
            return "traces"
        files = [file for file in path.rglob("*") if file.is_file()]
        if any(file.suffix == ".mp4" for file in files):
            return "recordings"
        if any(file.suffix.lower() in SUFFIXES for file in files):
            return "both"
        raise ValueError(
            f"{path}: neither images with captions, nor a data set, nor traces, nor recordings lie there"
        )
    if path.suffix not in (".json", ".jsonl"):
        raise ValueError(f"{path}: a file of data is .json or .jsonl")
    first = next(iter(read_numbered(path, Faults())), None)
    if first is None:
        raise ValueError(f"{path}: no records in it")
    keys = first.value if isinstance(first.value, dict) else {}
    if any(key in keys for key in ("chosen", "chosen_image", "rejected", "rejected_image")):
        return PREFERENCE
    if "conversations" in keys or "messages" in keys:
        return "llava"
    raise ValueError(
        f"{path}: its first record is neither a conversation nor a preference: name a form, PATH:FORM"
    )


def sources_of(data: Sequence[Data], options: DataOptions) -> tuple[Source, ...]:
    """The sources of a recipe, each with as many samples as it has records to train on and the hash of its
    content. Reads all records, so that a bad one is named here; ValueError also for none to train on."""
    found: list[Source] = []
    for item in data:
        for suffix, task, chosen in FORMS[item.form](item.path, options):
            chosen = {**chosen, "validation": options.validation, "test": 0.0}
            made = make(task, **chosen)
            if not made.count("train"):
                raise ValueError(f"{item.path}: no record is left to train on: lower --validation")
            name = _free(f"{item.name}{suffix}", [source.name for source in found])
            content = made.fingerprint()
            found.append(
                Source(task=task, samples=made.count("train"), options=chosen, name=name, content=content)
            )
    return tuple(found)


def _free(name: str, taken: Sequence[str]) -> str:
    """The name, or it with the first number that makes it new."""
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(other for other in numbered if other not in taken)
