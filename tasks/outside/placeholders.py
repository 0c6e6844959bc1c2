"""Turns of a conversation in which `<image>` stands for the next image, in the spellings of published data.

A turn is {"from": ..., "value": ...} or {"role": ..., "content": ...}; its content is a text, or a list of
parts as chat messages have them: {"type": "text", "text": ...}, {"type": "image"} for the next image of the
record, an image of its own under "image", "path" or "url", and OpenAI's {"type": "image_url", ...}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from unified.tasks.outside.faults import Faults
from unified.tasks.outside.images import read_image
from unified.tasks.outside.sources import Source, read_source
from unified.tokenizers.picture_sources import KEYS as PICTURE_KEYS
from unified.tokenizers.picture_sources import kind_of

from unified.text_files import check_unicode

PLACEHOLDER = "<image>"
ROLES = {
    **{"human": "user", "user": "user", "system": "system"},
    **{"gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant"},
}
SPELLINGS = (("from", "value"), ("role", "content"))

Turn = tuple[str, str]  # role, text with placeholders


@dataclass
class TurnReader:
    """Reads turns one after another and gathers, in `images`, what each of their placeholders stands for:
    an image of its own, or None for the next one of the record."""

    folder: Path
    faults: Faults
    images: list[Source | None] = field(default_factory=list)

    def turns(self, value: Any, name: str) -> list[Turn]:
        """ValueError for unknown speakers, empty texts and turns that do not alternate."""
        if not isinstance(value, list) or not value:
            raise ValueError(f"{name} must be a list of turns with at least one")
        turns = [self.turn(turn, f"{name}[{k}]") for k, turn in enumerate(value)]
        spoken = [role for role, _ in turns if role != "system"]
        if any(role == "system" for role, _ in turns[1:]):
            raise ValueError(f"{name}: a system turn may only come first")
        if any(first == second for first, second in pairwise(spoken)):
            raise ValueError(f"{name}: human and gpt must take turns")
        return turns

    def turn(self, value: Any, name: str) -> Turn:
        """One turn of either spelling."""
        given = [key for key, part in value.items() if part is not None] if isinstance(value, dict) else []
        spelling = next((keys for keys in SPELLINGS if set(given) >= set(keys)), None)
        if spelling is None:
            raise ValueError(
                f'{name} must be {{"from": ..., "value": ...}} or {{"role": ..., "content": ...}}'
            )
        self.faults.note_unknown(key for key in given if key not in spelling)
        speaker, content = (value[key] for key in spelling)
        role = ROLES.get(speaker.lower()) if isinstance(speaker, str) else None
        if role is None:
            known = f"turns of tools and others are not taken, only those of {', '.join(ROLES)}"
            raise ValueError(f"{name}: unknown speaker {speaker!r:.40}: {known}")
        text = self.text(content, name)
        if not text.strip():
            raise ValueError(f"{name}: the text must not be empty")
        return role, text

    def text(self, content: Any, name: str) -> str:
        """The text of a content, its images as placeholders."""
        if isinstance(content, list):
            return " ".join(self._part(part, f"{name}, part {k}") for k, part in enumerate(content))
        if not isinstance(content, str):
            raise ValueError(f"{name}: the text must be a string, got {content!r:.60}")
        check_unicode(content)
        self.images += [None] * content.count(PLACEHOLDER)
        return content

    def _part(self, part: Any, name: str) -> str:
        kind = kind_of(part) if isinstance(part, dict) else None
        if kind == "text":
            return self.text(part.get("text"), name)
        if kind != "image":
            raise ValueError(f"{name} has type {kind!r:.40}: give text, image or image_url")
        self.faults.note_unknown(key for key in part if key not in ("type", "text", *PICTURE_KEYS))
        alone = part.get("type") == "image" and all(part.get(key) is None for key in PICTURE_KEYS)
        self.images.append(None if alone else read_source(part, self.folder, name))
        return PLACEHOLDER

    def found(self, given: Sequence[Source]) -> tuple[Source, ...]:
        """The image of every placeholder; `given` are those of the record. ValueError if they do not fit."""
        wanted = self.images.count(None)
        if wanted != len(given):
            raise ValueError(f"{wanted} {PLACEHOLDER} in the texts, but {len(given)} images")
        rest = iter(given)
        return tuple(next(rest) if image is None else image for image in self.images)


def load_messages(turns: Sequence[Turn], images: Sequence[Source], size: int | None) -> list[dict[str, Any]]:
    """Messages with the images loaded, in order."""
    files = iter(images)
    return [{"role": role, "content": _content(text, files, size)} for role, text in turns]


def _content(text: str, files: Iterator[Source], size: int | None) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for number, piece in enumerate(text.split(PLACEHOLDER)):
        if number:
            content.append({"type": "image", "image": read_image(next(files), size)})
        if piece.strip():
            content.append({"type": "text", "text": piece.strip()})
    return content
