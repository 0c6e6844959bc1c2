"""Writes recordings step by step: the frame, then its line, both on disk before the next step is asked
for."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from .lines import Line, line_of
from .video import VideoWriter


class RecordingWriter:
    """`with RecordingWriter(stem) as writer: writer.append(frame, action)` makes `stem`.mp4 and `stem`.jsonl.

    If the program stops half-way, every line and all full seconds of video are kept and readable. `meta`,
    plain JSON data such as the seed of the world, goes to `stem`.meta.json. Existing files are not
    overwritten (FileExistsError).
    """

    def __init__(
        self,
        stem: str | Path,
        *,
        fps: float = 20.0,
        lossless: bool = True,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self.stem = Path(stem)
        self.fps = fps
        self.count = 0
        self._paths = {kind: part(self.stem, kind) for kind in ("mp4", "jsonl", "meta.json")}
        for path in self._paths.values():
            if path.exists():
                raise FileExistsError(f"{path} exists already: choose another name or remove it first")
        self._video = VideoWriter(self._paths["mp4"], fps=fps, lossless=lossless)
        self._meta = None if meta is None else json.dumps(dict(meta), allow_nan=False)
        self._text: IO[str] | None = None
        self._previous: Line | None = None
        self._slot = 0
        self._closed = False

    def append(
        self, frame: np.ndarray, action: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> None:
        """Frame k (uint8 [H, W, 3]) and the action taken on it. `state` may hold any of `lines.STATE_FIELDS`
        as they are in that frame; without a `hotbar` there, the slot of the last number key is written.

        Raises ValueError, before anything is written, on a bad frame, action or state."""
        if self._closed:
            raise ValueError(f"{self.stem}: the recording is closed")
        self._video.check(frame)
        known = {"hotbar": self._slot, **(state or {})}
        line = line_of(action, previous=self._previous, state=known, tick=self.count, fps=self.fps)
        text = self._open()
        self._video.append(frame)
        text.write(json.dumps(line) + "\n")
        text.flush()
        self._previous, self.count = line, self.count + 1
        pressed = [int(key[-1]) for key in line["keyboard"]["keys"] if key[-1].isdigit()]
        self._slot = min(pressed) - 1 if pressed else line["hotbar"]

    def close(self, closing_frame: np.ndarray | None = None) -> None:
        """Ends the recording. `closing_frame` shows the effect of the last action; it has no line of its
        own."""
        if self._closed:
            return
        try:
            if closing_frame is not None and self._text is not None:
                self._video.append(closing_frame)
        finally:
            self._closed = True
            self._video.close()
            if self._text is not None:
                self._text.close()

    def _open(self) -> IO[str]:
        """Files appear with the first step, so a recording without steps leaves none."""
        if self._text is not None:
            return self._text
        self.stem.parent.mkdir(parents=True, exist_ok=True)
        if self._meta is not None:
            self._paths["meta.json"].write_text(self._meta + "\n", encoding="utf-8")
        self._text = self._paths["jsonl"].open("x", encoding="utf-8")
        return self._text

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_recording(
    stem: str | Path,
    frames: Sequence[np.ndarray] | np.ndarray,
    actions: Sequence[Mapping[str, Any]],
    *,
    fps: float = 20.0,
    lossless: bool = True,
    states: Iterable[Mapping[str, Any]] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Path:
    """A whole recording at once; returns the path of its lines. There are as many frames as actions, or
    one more: the closing frame. `lossless` keeps every pixel (see `video`). Raises ValueError on bad
    input."""
    if not actions or len(frames) not in (len(actions), len(actions) + 1):
        raise ValueError(
            f"a recording needs one frame per action and at most one more, got {len(frames)} frames "
            f"and {len(actions)} actions"
        )
    per_step = list(states) if states is not None else [None] * len(actions)
    if len(per_step) != len(actions):
        raise ValueError(f"states must be one per action ({len(actions)}), got {len(per_step)}")
    with RecordingWriter(stem, fps=fps, lossless=lossless, meta=meta) as writer:
        for frame, action, state in zip(frames, actions, per_step, strict=False):
            writer.append(frame, action, state)
        writer.close(frames[-1] if len(frames) > len(actions) else None)
    return part(Path(stem), "jsonl")


def part(stem: Path, kind: str) -> Path:
    """The file of a recording: names may hold dots, so `with_suffix` would cut them."""
    return stem.with_name(f"{stem.name}.{kind}")


def found_part(stem: Path, kind: str) -> Path:
    """The same of a recording that is read: endings in capitals (`.MP4`) are found, too."""
    path = part(stem, kind)
    if path.exists() or not stem.parent.is_dir():
        return path
    others = sorted(stem.parent.glob(f"{glob.escape(stem.name)}.*"))
    return next((other for other in others if other.name.lower() == path.name.lower()), path)
