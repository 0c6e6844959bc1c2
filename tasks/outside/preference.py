"""Preferences: a prompt with a chosen and a rejected answer, each text, a picture, or both.

A `.json` list or a `.jsonl`; a record has one of these forms (methods: DPO, arXiv 2305.18290; on drawn
pictures: VARGPT-v1.1, arXiv 2504.02949), image names being relative to the file's folder:

    {"prompt": "What is this? <image>", "chosen": "A cat.", "rejected": "A dog.", "images": ["a.png"]}
    {"prompt": "Draw a cat.", "chosen_image": "good.png", "rejected_image": "bad.png"}
    {"prompt": [turns], "chosen": [turns] or turn, "rejected": [turns] or turn, "images": [...]}
    {"conversations": [turns], "chosen": turn, "rejected": turn, "images": [...]}

A turn is {"from": "human" | "gpt", "value": ...} or {"role": ..., "content": ...}. `images` are those of the
prompt, of the chosen and of the rejected answer, in this order of their `<image>`; a prompt with images
and no `<image>` begins with them. The spellings of TRL and LLaMA-Factory are read too
(`preference_forms.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified.tasks.outside.faults import Faults
from unified.tasks.outside.images import Picture
from unified.tasks.outside.numbered import expect_object, expect_text, read_built
from unified.tasks.outside.placeholders import (
    PLACEHOLDER,
    Turn,
    check_count,
    load_messages,
    read_paths,
    read_turn,
    read_turns,
)
from unified.tasks.outside.preference_forms import plain_form

Messages = list[dict[str, Any]]
OPTIONAL = ("id", "images", "image", "chosen", "rejected", "chosen_image", "rejected_image")


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Turns of the prompt and of both answers, with the images of each."""

    prompt: list[Turn]
    chosen: list[Turn]
    rejected: list[Turn]
    paths: tuple[Picture, ...]
    where: str

    def messages(self, size: int | None = None) -> dict[str, Messages]:
        """{"prompt", "chosen", "rejected"}: messages with images loaded; the answers follow the prompt."""
        parts = {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected}
        loaded, start = {}, 0
        try:
            for name, turns in parts.items():
                count = sum(text.count(PLACEHOLDER) for _, text in turns)
                loaded[name] = load_messages(turns, self.paths[start : start + count], size)
                start += count
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from None
        return loaded


def read_preferences(
    path: str | Path, images: str | Path | None = None, faults: Faults | None = None
) -> Iterator[Preference]:
    """The preferences of a file; `images` is the folder of the images, by default that of the file. Raises
    ValueError, in one line, for a file without any and, unless `faults` skips, for the first bad one."""
    return read_built(path, images, faults, preference)


def preference(value: Any, folder: Path, where: str) -> Preference:
    """The preference of one record; images that are no names are pictures themselves. ValueError for a bad
    one."""
    value = plain_form(value)
    asked = "conversations" if isinstance(value, dict) and "conversations" in value else "prompt"
    record = expect_object(value, (asked,), OPTIONAL)
    given = read_paths(record.get("images", record.get("image")), folder, "images")
    prompt = _prompt(record[asked], asked)
    chosen, chosen_paths = _answer(record, "chosen", folder)
    rejected, rejected_paths = _answer(record, "rejected", folder)
    files = all(isinstance(path, Path) for path in (*chosen_paths, *rejected_paths))  # arrays do not compare
    equal = chosen == rejected and files and chosen_paths == rejected_paths
    if equal and PLACEHOLDER not in chosen[0][1]:
        raise ValueError("chosen and rejected are equal")
    if given and not any(PLACEHOLDER in text for _, text in (*prompt, *chosen, *rejected)):
        first = next(k for k, (role, _) in enumerate(prompt) if role == "user")
        prompt[first] = ("user", PLACEHOLDER * len(given) + prompt[first][1])
    paths = given + chosen_paths + rejected_paths
    check_count([text for _, text in (*prompt, *chosen, *rejected)], paths)
    return Preference(prompt=prompt, chosen=chosen, rejected=rejected, paths=paths, where=where)


def _prompt(value: Any, name: str) -> list[Turn]:
    turns = [("user", expect_text(value, name))] if isinstance(value, str) else read_turns(value, name)
    if turns[-1][0] != "user":
        raise ValueError(f"{name} must end with a turn of the user")
    return turns


def _answer(record: dict[str, Any], name: str, folder: Path) -> tuple[list[Turn], tuple[Picture, ...]]:
    """The turns of an answer, and its image if that is given by a key of its own."""
    value, image = record.get(name), record.get(f"{name}_image")
    if value is None and image is None:
        raise ValueError(f"the key {name!r} (or '{name}_image') is missing")
    turns: list[Turn] = []
    if isinstance(value, str):
        turns = [("assistant", expect_text(value, name))]
    elif value is not None:
        turns = read_turns(value, name) if isinstance(value, list) else [read_turn(value, name)]
    if turns and {turns[0][0], turns[-1][0]} != {"assistant"}:
        raise ValueError(f"{name} must be said by the assistant (gpt)")
    if image is None:
        return turns, ()
    role, text = turns[-1] if turns else ("assistant", "")
    return [*turns[:-1], (role, text + PLACEHOLDER)], read_paths(image, folder, f"{name}_image")
