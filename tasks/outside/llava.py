"""Conversations in the form of LLaVA's instruction data (arXiv 2304.08485) and its relatives.

A `.json` list or a `.jsonl` of {"id": ..., "image": "a.png", "conversations": [{"from": "human", "value":
"<image>\\nWhat is this?"}, {"from": "gpt", "value": "A cat."}]}. `image` may be a list or missing (records of
text alone, as in ShareGPT); `images` is taken in its place, and `messages` in that of `conversations`, with
contents as chat messages have them (`placeholders`). Every `<image>` stands for the next image, in answers as
well. A text under `system` comes first. Null counts as missing; other keys are left alone, with one warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified.tasks.outside.faults import Faults
from unified.tasks.outside.numbered import expect_object, read_built
from unified.tasks.outside.placeholders import Turn, TurnReader, load_messages
from unified.tasks.outside.sources import Source, read_sources


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Turns of (role, text) and the images that their placeholders stand for."""

    turns: list[Turn]
    images: tuple[Source, ...]
    where: str

    def messages(self, size: int | None = None) -> list[dict[str, Any]]:
        """With images loaded, see `images.read_image`; a fault names the line."""
        try:
            return load_messages(self.turns, self.images, size)
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from None


def read_llava(
    path: str | Path, images: str | Path | None = None, faults: Faults | None = None
) -> Iterator[Conversation]:
    """The conversations of a file; `images` is the folder of the images, by default that of the file. Raises
    ValueError, in one line, for a file without any and, unless `faults` skips, for the first bad one."""
    return read_built(path, images, faults, _conversation)


def _conversation(value: Any, folder: Path, where: str, faults: Faults) -> Conversation:
    said = "messages" if isinstance(value, dict) and value.get("messages") is not None else "conversations"
    record = expect_object(value, (said,), ("id", "image", "images", "system"), faults)
    reader = TurnReader(folder, faults)
    first = [("system", reader.text(record["system"], "system"))] if "system" in record else []
    turns = [*first, *reader.turns(record[said], said)]
    if [role for role, _ in turns].count("system") > 1:
        raise ValueError(f"give the system's words under 'system' or in {said}, not twice")
    if turns[-1][0] != "assistant":
        raise ValueError(f"{said} must end with a turn of gpt")
    if "image" in record and "images" in record:
        raise ValueError("give either image or images")
    given = read_sources(record.get("image", record.get("images")), folder, "image")
    return Conversation(turns=turns, images=reader.found(given), where=where)
