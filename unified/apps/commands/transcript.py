"""What was said and shown in a chat, in order: what `/save` writes and `/undo` takes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unified.apps.commands.common import save


class Transcript:
    """Lines of text and pictures uint8 [H, W, 3]. Pictures are numbered 1, 2, ... as they came."""

    def __init__(self) -> None:
        self.entries: list[str | np.ndarray] = []

    @property
    def pictures(self) -> list[np.ndarray]:
        return [entry for entry in self.entries if not isinstance(entry, str)]

    def add(self, entry: str | np.ndarray) -> None:
        """Append a text, if it has any, or a picture."""
        if not isinstance(entry, str) or entry.strip():
            self.entries.append(entry.strip() if isinstance(entry, str) else entry)

    def save(self, path: Path) -> list[Path]:
        """Write the text, which names each picture where it came, and the pictures beside it as
        `NAME_1.png`, `NAME_2.png`, ...: the files."""
        lines, files = [], [path]
        for entry in self.entries:
            if isinstance(entry, str):
                lines.append(entry)
                continue
            number = len(files)
            files.append(path.with_name(f"{path.stem}_{number}.png"))
            save(entry, files[-1])
            lines.append(f"(picture {number}: {files[-1].name})")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return files
