"""Spellings of a preference in other projects, brought to the one that `preference.py` reads.

TRL: conversational rows (`prompt`, `chosen`, `rejected` as lists of messages, whose content may be a list of
`{"type": "text" | "image"}`), also with an implicit prompt: `chosen` and `rejected` are whole conversations
that begin alike. LLaMA-Factory: `messages` (or `conversations`) with `chosen` and `rejected` turns, `system`,
`<image>` for images that are read and `<image_gen>` for those that are drawn; the latter are taken from
`images_gen` if there is such a list, else from `images` in their order.
"""

from __future__ import annotations

import re
from typing import Any

from unified.tasks.outside.placeholders import PLACEHOLDER

DRAWN = "<image_gen>"
PARTS = ("prompt", "conversations", "chosen", "rejected")
_MARK = re.compile(f"{PLACEHOLDER}|{DRAWN}")


def plain_form(value: Any) -> Any:
    """The record in the spelling of `preference.py`; what is no record, or wrong in another way, comes back
    as it is. ValueError for two prompts, and for images that do not fit their placeholders."""
    if not isinstance(value, dict):
        return value
    record = dict(value)
    if "messages" in record:
        if "conversations" in record or "prompt" in record:
            raise ValueError("give the prompt once: as messages, conversations or prompt")
        record["conversations"] = record.pop("messages")
    _split_implicit(record)
    inline: list[Any] = []
    for part in (name for name in PARTS if name in record):
        record[part] = _flat(record[part], inline)
    if inline:
        if record.get("images"):
            raise ValueError("images are given twice: in the content of messages and under 'images'")
        record["images"] = inline
    if "system" in record:
        system = {"role": "system", "content": record.pop("system")}
        name = "conversations" if "conversations" in record else "prompt"
        turns = record.get(name)
        turns = [{"role": "user", "content": turns}] if isinstance(turns, str) else turns
        record[name] = [system, *turns] if system["content"] and isinstance(turns, list) else turns
    return _one_list(record)


def _split_implicit(record: dict[str, Any]) -> None:
    """Conversations that begin alike: what they share is the prompt."""
    chosen, rejected = record.get("chosen"), record.get("rejected")
    if "prompt" in record or "conversations" in record:
        return
    if not isinstance(chosen, list) or not isinstance(rejected, list):
        return
    pairs = zip(chosen, rejected, strict=False)
    shared = next(
        (n for n, (one, other) in enumerate(pairs) if one != other), min(len(chosen), len(rejected))
    )
    if shared == len(chosen) == len(rejected):
        raise ValueError("chosen and rejected are equal")
    if not shared:
        raise ValueError("chosen and rejected share no first messages that could be their prompt")
    record |= {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _flat(value: Any, inline: list[Any]) -> Any:
    """Turns whose content is a list of items, with texts that hold placeholders."""
    if isinstance(value, list):
        return [_flat(turn, inline) for turn in value]
    if not isinstance(value, dict) or not isinstance(value.get("content"), list):
        return value
    words = []
    for item in value["content"]:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "text" and isinstance(item.get("text"), str):
            words.append(item["text"])
        elif kind == "image":
            given = next((item[k] for k in ("image", "path", "url") if item.get(k) is not None), None)
            inline += [] if given is None else [given]
            words.append(PLACEHOLDER)
        else:
            raise ValueError(f"content has an item of type {kind!r}: use text or image")
    return {**value, "content": "".join(words)}


def _one_list(record: dict[str, Any]) -> dict[str, Any]:
    """`<image_gen>` as `<image>`, their images among the others in the order of all placeholders."""
    texts = [text for part in PARTS for text in _texts(record.get(part))]
    marks = [mark for text in texts for mark in _MARK.findall(text)]
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


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for turn in value for text in _texts(turn)]
    return _texts(value.get("value", value.get("content"))) if isinstance(value, dict) else []


def _renamed(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(DRAWN, PLACEHOLDER)
    if isinstance(value, list):
        return [_renamed(turn) for turn in value]
    return {key: _renamed(item) for key, item in value.items()} if isinstance(value, dict) else value


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
