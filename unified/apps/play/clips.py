"""Clips of what is played: a recording in VPT's format for every world, and a GIF of them side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unified.apps.commands.common import save_animation
from unified.apps.play.worlds import Worlds

FPS = 20.0  # a step is a twentieth of a second in the game, however long it took to compute
GIF_FRAMES = 600  # the latest half a minute
GIF_HEIGHT = 256  # pixels, at least where frames are smaller


class Clip:
    """A recording that is under way in `folder`, under the first free number: `clip_001_real` and
    `clip_001_dream` (.mp4, .jsonl and .meta.json each) and `clip_001.gif`."""

    def __init__(self, folder: Path, worlds: Worlds) -> None:
        from unified.envs.recordings import RecordingWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.worlds, self.count = worlds, 0
        self.stem = _free(folder)
        self._frames: deque[np.ndarray] = deque(maxlen=GIF_FRAMES)
        self._writers = {
            name: RecordingWriter(self._of(name), fps=FPS, meta=_meta(env, worlds))
            for name, env in worlds.stepped.items()
        }

    def add(self, action: Mapping[str, Any]) -> None:
        """The current frames, and the action that is about to be taken on them."""
        from unified.envs.recordings import state_of

        for name, writer in self._writers.items():
            writer.append(self.worlds.frames[name], action, state_of(*self.worlds.told[name]))
        self._frames.append(self.worlds.picture())
        self.count += 1

    def close(self) -> list[Path]:
        """End the recording with the current frames as what the last action led to: the files, none where
        nothing was played."""
        for name, writer in self._writers.items():
            writer.close(self.worlds.frames[name])
        if not self.count:
            return []
        self._frames.append(self.worlds.picture())
        gif = self.stem.with_name(f"{self.stem.name}.gif")
        times = max(1, GIF_HEIGHT // self._frames[0].shape[0])
        save_animation(list(self._frames), gif, times=times, fps=FPS)
        stems = [self._of(name) for name in self._writers]
        return [*(stem.with_name(f"{stem.name}.mp4") for stem in stems), gif]

    def _of(self, name: str) -> Path:
        return self.stem.with_name(f"{self.stem.name}_{name}")


def _meta(env: Any, worlds: Worlds) -> dict[str, Any]:
    """Where the recording begins: the world of this seed, after so many steps."""
    return {"env": type(env).__name__, "seed": worlds.seed, "step": worlds.steps}


def _free(folder: Path) -> Path:
    """The first clip_NNN of which there is no file."""
    taken = {"_".join(path.name.split(".")[0].split("_")[:2]) for path in folder.glob("clip_*")}
    number = next(number for number in range(1, 10**6) if f"clip_{number:03}" not in taken)
    return folder / f"clip_{number:03}"
