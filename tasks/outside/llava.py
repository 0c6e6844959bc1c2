"""Conversations in the form of LLaVA's instruction data (arXiv 2304.08485).

A `.json` list or a `.jsonl` of {"id": ..., "image": "a.png", "conversations": [{"from": "human", "value":
"<image>\\nWhat is this?"}, {"from": "gpt", "value": "A cat."}]}. `image` may be a list or missing, and
`images` is taken too; every `<image>` stands for the next image, in answers as well. `id` is optional.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified.tasks.outside.faults import Faults
from unified.tasks.outside.numbered import expect_object, read_built
from unified.tasks.outside.placeholders import Turn, check_count, load_messages, read_paths, read_turns


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Turns of (role, text) and the images that their placeholders stand for."""

    turns: list[Turn]
    paths: tuple[Path, ...]
    where: str

    def messages(self, size: int | None = None) -> list[dict[str, Any]]:
        """With images loaded, see `images.read_image`; a fault names the line."""
        try:
            return load_messages(self.turns, self.paths, size)
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from None


def read_llava(
    path: str | Path, images: str | Path | None = None, faults: Faults | None = None
) -> Iterator[Conversation]:
    """The conversations of a file; `images` is the folder of the images, by default that of the file. Raises
    ValueError, in one line, for a file without any and, unless `faults` skips, for the first bad one."""
    return read_built(path, images, faults, _conversation)


def _conversation(value: Any, folder: Path, where: str) -> Conversation:
    record = expect_object(value, ("conversations",), ("id", "image", "images"))
    turns = read_turns(record["conversations"], "conversations")
    if turns[-1][0] != "assistant":
        raise ValueError("conversations must end with a turn of gpt")
    if "image" in record and "images" in record:
        raise ValueError("give either image or images")
    paths = read_paths(record.get("image", record.get("images")), folder, "image")
    check_count([text for _, text in turns], paths)
    return Conversation(turns=turns, paths=paths, where=where)
