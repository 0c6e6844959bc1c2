"""Texts in which `<image>` stands for the next image of a list."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from unified.tasks.outside.images import Picture, find_image, is_picture, read_picture

PLACEHOLDER = "<image>"
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}

Turn = tuple[str, str]  # role, text with placeholders


def read_turns(value: Any, name: str) -> list[Turn]:
    """[{"from": "human" | "gpt" | "system", "value": ...}] or [{"role": ..., "content": ...}] as turns.

    Raises ValueError for other keys, unknown speakers, empty texts and turns that do not alternate."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name} must be a list of turns with at least one")
    turns = [read_turn(turn, f"{name}[{k}]") for k, turn in enumerate(value)]
    spoken = [role for role, _ in turns if role != "system"]
    if any(role == "system" for role, _ in turns[1:]):
        raise ValueError(f"{name}: a system turn may only come first")
    if any(first == second for first, second in pairwise(spoken)):
        raise ValueError(f"{name}: human and gpt must take turns")
    return turns


def read_turn(value: Any, name: str) -> Turn:
    """One turn of either spelling."""
    if not isinstance(value, dict) or set(value) not in ({"from", "value"}, {"role", "content"}):
        raise ValueError(f'{name} must be {{"from": ..., "value": ...}}')
    speaker, text = value.get("from", value.get("role")), value.get("value", value.get("content"))
    if not isinstance(speaker, str) or speaker not in ROLES:
        raise ValueError(f"{name}: unknown speaker {speaker!r}: choose one of {', '.join(ROLES)}")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{name}: the text must not be empty")
    return ROLES[speaker], text


def read_paths(value: Any, folder: Path, name: str) -> tuple[Picture, ...]:
    """One image name, a list of them, or none, as files in the folder; pictures as they are."""
    names = [] if value is None else value if isinstance(value, list) else [value]
    if not all((isinstance(item, str) and item) or is_picture(item) for item in names):
        raise ValueError(f"{name} must be the name of an image file or a list of names")
    return tuple(find_image(folder, item) if isinstance(item, str) else item for item in names)


def check_count(texts: list[str], paths: tuple[Picture, ...]) -> None:
    wanted = sum(text.count(PLACEHOLDER) for text in texts)
    if wanted != len(paths):
        raise ValueError(f"{wanted} {PLACEHOLDER} in the texts, but {len(paths)} images")


def load_messages(turns: list[Turn], paths: tuple[Picture, ...], size: int | None) -> list[dict[str, Any]]:
    """Messages with the images loaded, in order."""
    files = iter(paths)
    return [{"role": role, "content": _content(text, files, size)} for role, text in turns]


def _content(text: str, files: Iterator[Picture], size: int | None) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for number, piece in enumerate(text.split(PLACEHOLDER)):
        if number:
            content.append({"type": "image", "image": read_picture(next(files), size)})
        if piece.strip():
            content.append({"type": "text", "text": piece.strip()})
    return content
