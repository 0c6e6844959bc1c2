"""Preferences: a prompt with a chosen and a rejected answer, each text, a picture, or both.

A `.json` list or a `.jsonl`; a record has one of these forms (methods: DPO, arXiv 2305.18290; on drawn
pictures: VARGPT-v1.1, arXiv 2504.02949), image names being relative to the file's folder:

    {"prompt": "What is this? <image>", "chosen": "A cat.", "rejected": "A dog.", "images": ["a.png"]}
    {"prompt": "Draw a cat.", "chosen_image": "good.png", "rejected_image": "bad.png"}
    {"prompt": [turns], "chosen": [turns] or turn, "rejected": [turns] or turn, "images": [...]}
    {"conversations": [turns], "chosen": turn, "rejected": turn, "images": [...]}
    {"chosen": [turns], "rejected": [turns]}, both of which begin with the same prompt

A turn is {"from": "human" | "gpt", "value": ...} or {"role": ..., "content": ...}, see `placeholders`.
`images` are those of the prompt, of the chosen and of the rejected answer, in this order of their `<image>`;
a prompt with images and no `<image>` begins with them. Other keys are left alone, with one warning.
LLaMA-Factory's spelling is read too (`preference_forms.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified.tasks.outside.faults import Faults
from unified.tasks.outside.numbered import expect_object, expect_text, read_built
from unified.tasks.outside.placeholders import PLACEHOLDER, Turn, TurnReader, load_messages
from unified.tasks.outside.preference_forms import plain_form
from unified.tasks.outside.sources import Source, read_source, read_sources

Messages = list[dict[str, Any]]
OPTIONAL = ("id", "images", "image", "chosen", "rejected", "chosen_image", "rejected_image")


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Turns of the prompt and of both answers, with the images of each."""

    prompt: list[Turn]
    chosen: list[Turn]
    rejected: list[Turn]
    images: tuple[Source, ...]
    where: str

    def messages(self, size: int | None = None) -> dict[str, Messages]:
        """{"prompt", "chosen", "rejected"}: messages with images loaded; the answers follow the prompt."""
        parts = {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected}
        loaded, start = {}, 0
        try:
            for name, turns in parts.items():
                count = sum(text.count(PLACEHOLDER) for _, text in turns)
                loaded[name] = load_messages(turns, self.images[start : start + count], size)
                start += count
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}".removeprefix(": ")) from None
        return loaded


def read_preferences(
    path: str | Path, images: str | Path | None = None, faults: Faults | None = None
) -> Iterator[Preference]:
    """The preferences of a file; `images` is the folder of the images, by default that of the file. Raises
    ValueError, in one line, for a file without any and, unless `faults` skips, for the first bad one."""
    return read_built(path, images, faults, preference)


def preference(value: Any, folder: Path, where: str, faults: Faults) -> Preference:
    """The preference of one record. ValueError for a bad one."""
    value = _with_prompt(plain_form(value))
    asked = "conversations" if isinstance(value, dict) and "conversations" in value else "prompt"
    record = expect_object(value, (asked,), OPTIONAL, faults)
    given = read_sources(record.get("images", record.get("image")), folder, "images")
    reader = TurnReader(folder, faults)
    prompt = _prompt(record[asked], asked, reader)
    chosen, chosen_image = _answer(record, "chosen", reader)
    rejected, rejected_image = _answer(record, "rejected", reader)
    if (chosen, chosen_image) == (rejected, rejected_image) and PLACEHOLDER not in chosen[0][1]:
        raise ValueError("chosen and rejected are equal")
    if given and not reader.images.count(None):
        first = next(k for k, (role, _) in enumerate(prompt) if role == "user")
        before = sum(text.count(PLACEHOLDER) for _, text in prompt[:first])
        reader.images[before:before] = [None] * len(given)
        prompt[first] = ("user", PLACEHOLDER * len(given) + prompt[first][1])
    images = reader.found(given)
    return Preference(prompt=prompt, chosen=chosen, rejected=rejected, images=images, where=where)


def _with_prompt(value: Any) -> Any:
    """Answers that are whole conversations, as TRL's data sets have them: the turns that both begin with are
    the prompt."""
    if not isinstance(value, dict):
        return value
    chosen, rejected = value.get("chosen"), value.get("rejected")
    if not isinstance(chosen, list) or not isinstance(rejected, list):
        return value
    pairs = enumerate(zip(chosen[:-1], rejected[:-1], strict=False))
    count = next((k for k, (one, other) in pairs if one != other), min(len(chosen), len(rejected)) - 1)
    asked = value.get("prompt", value.get("conversations"))
    said = chosen[count - 1].get("content") if count > 0 and isinstance(chosen[count - 1], dict) else None
    if count < 1 or asked not in (None, said, chosen[:count]):
        return value
    whole = {key: part for key, part in value.items() if key != "conversations"}
    return {**whole, "prompt": chosen[:count], "chosen": chosen[count:], "rejected": rejected[count:]}


def _prompt(value: Any, name: str, reader: TurnReader) -> list[Turn]:
    if isinstance(value, str):
        return [("user", reader.text(expect_text(value, name), name))]
    turns = reader.turns(value, name)
    if turns[-1][0] != "user":
        raise ValueError(f"{name} must end with a turn of the user")
    return turns


def _answer(record: dict[str, Any], name: str, reader: TurnReader) -> tuple[list[Turn], Source | None]:
    """The turns of an answer, and its image if that is given by a key of its own."""
    value, image = record.get(name), record.get(f"{name}_image")
    if value is None and image is None:
        raise ValueError(f"the key {name!r} (or '{name}_image') is missing")
    turns: list[Turn] = []
    if isinstance(value, str):
        turns = [("assistant", reader.text(expect_text(value, name), name))]
    elif value is not None:
        turns = reader.turns(value, name) if isinstance(value, list) else [reader.turn(value, name)]
    if turns and {turns[0][0], turns[-1][0]} != {"assistant"}:
        raise ValueError(f"{name} must be said by the assistant (gpt)")
    if image is None:
        return turns, None
    source = read_source(image, reader.folder, f"{name}_image")
    reader.images.append(source)
    role, text = turns[-1] if turns else ("assistant", "")
    return [*turns[:-1], (role, text + PLACEHOLDER)], source
