"""LLaMA-Factory's spelling of a preference, brought to the one that `preference.py` reads: `messages` in
place of `conversations`, `system`, and `<image_gen>` for an image that is drawn.

Images of `<image_gen>` are taken from `images_gen` if there is such a list, else from `images` with the
others, in the order of all placeholders.
"""

from __future__ import annotations

import re
from typing import Any

from unified.tasks.outside.placeholders import PLACEHOLDER
from unified.tokenizers.picture_sources import kind_of

DRAWN = "<image_gen>"
PARTS = ("prompt", "conversations", "chosen", "rejected")
_MARK = re.compile(f"{PLACEHOLDER}|{DRAWN}")


def plain_form(value: Any) -> Any:
    """The record in the spelling of `preference.py`; what is no record, or wrong in another way, comes back
    as it is. ValueError for two prompts, and for images that do not fit their placeholders."""
    if not isinstance(value, dict):
        return value
    record = {key: part for key, part in value.items() if part is not None}
    if "messages" in record:
        if "conversations" in record or "prompt" in record:
            raise ValueError("give the prompt once: as messages, conversations or prompt")
        record["conversations"] = record.pop("messages")
    system = record.pop("system", None)
    if system:
        name = "conversations" if "conversations" in record else "prompt"
        turns = record.get(name)
        turns = [{"role": "user", "content": turns}] if isinstance(turns, str) else turns
        record[name] = [{"role": "system", "content": system}, *turns] if isinstance(turns, list) else turns
    return _one_list(record)


def _one_list(record: dict[str, Any]) -> dict[str, Any]:
    """`<image_gen>` as `<image>`, their images among the others."""
    marks = [mark for part in PARTS for mark in _marks(record.get(part))]
    if DRAWN not in marks:
        return record
    if "images_gen" in record:
        given = {PLACEHOLDER: _listed(record.get("images")), DRAWN: _listed(record.pop("images_gen"))}
        for mark, images in given.items():
            if marks.count(mark) != len(images):
                raise ValueError(
                    f"{marks.count(mark)} {mark} in the texts, but {len(images)} images for them"
                )
        sources = {mark: iter(images) for mark, images in given.items()}
        record["images"] = [next(sources[mark]) for mark in marks]
    return {**record, **{part: _renamed(record[part]) for part in PARTS if part in record}}


def _marks(value: Any) -> list[str]:
    """The placeholders of a text, a turn or turns, in their order; an image item is `<image>`."""
    if isinstance(value, str):
        return _MARK.findall(value)
    if isinstance(value, list):
        return [mark for item in value for mark in _marks(item)]
    if not isinstance(value, dict):
        return []
    if kind_of(value) == "image":
        return [PLACEHOLDER]
    return _marks(value.get("value", value.get("content", value.get("text"))))


def _renamed(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(DRAWN, PLACEHOLDER)
    if isinstance(value, list):
        return [_renamed(turn) for turn in value]
    return {key: _renamed(item) for key, item in value.items()} if isinstance(value, dict) else value


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
