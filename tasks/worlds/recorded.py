"""Clips of recordings on disk: any folder of `.mp4` and `.jsonl` pairs that `unified.envs.recordings` reads.

The lines of a recording decide its split by hash, so copies of one recording stay together. The windows of a
recording have neighbouring indices: a process decodes each file once as long as it asks in order.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from unified.tasks.sample import check_split, generator, split_of
from unified.tasks.worlds.clips import Clip, check_frames, check_seed, frame_size
from unified.tasks.worlds.forms import FORMS

from unified.text_files import read_bytes

KEPT_DECODED = 2  # recordings in memory


@dataclass(frozen=True, kw_only=True)
class RecordingsConfig:
    """`folder` of recordings; `form`: what is asked, a name of `forms.FORMS`; `text`: what the players were
    asked to do; `validation` and `test`: shares of the recordings in these splits."""

    folder: str
    seed: int = 0
    size: int | tuple[int, int] = 64
    frames: int = 8
    form: str = "frames"
    text: str = "Explore."
    validation: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_frames(self.frames)
        frame_size(self.size)
        if self.form not in FORMS:
            raise ValueError(f"unknown form {self.form!r}: choose one of {', '.join(FORMS)}")
        if not (0 <= self.validation <= 1 and 0 <= self.test <= 1 and self.validation + self.test <= 1):
            raise ValueError(f"validation and test are shares, got {self.validation} and {self.test}")


class RecordedClips:
    """The clips of a folder by index. Raises ValueError for a folder without recordings."""

    def __init__(self, config: RecordingsConfig) -> None:
        from unified.envs.recordings import find_recordings, found_part

        self.config = config
        self._stems: dict[str, list[Path]] = {}
        self._counts: dict[Path, int] = {}
        self._bad: set[Path] = set()  # recordings that could not be read
        videos = hashlib.sha256()
        for stem in find_recordings(config.folder):
            lines = read_bytes(found_part(stem, "jsonl"))
            name = split_of(hashlib.sha256(lines).hexdigest(), config.validation, config.test)
            self._stems.setdefault(name, []).append(stem)
            self._counts[stem] = max(lines.count(b"\n") // config.frames, 1)
            videos.update(lines + str(stem.with_name(f"{stem.name}.mp4").stat().st_size).encode())
        self.fingerprint = videos.hexdigest()  # of all lines and the sizes of all videos

    def count(self, split: str) -> int:
        """How many clips a split is cut into."""
        return sum(self._counts[stem] for stem in self._stems.get(split, ()))

    def clip(self, index: int, split: str) -> Clip:
        """The clip of this index; after the last window of a split its recordings are cut anew, with another
        offset. Raises ValueError for a split without recordings."""
        check_split(split)
        stems = self._stems.get(split)
        if not stems:
            raise ValueError(f"{self.config.folder}: no recording falls into the split {split!r}")
        total = self.count(split)
        rng = generator(self.config.seed, split, index // total)
        number, offset = index % total, int(rng.integers(self.config.frames))
        order = [stems[k] for k in rng.permutation(len(stems))]
        for place, stem in enumerate(order):
            if number < self._counts[stem]:
                return self._cut(order[place:] + order[:place], number * self.config.frames + offset)
            number -= self._counts[stem]
        raise AssertionError("the windows add up to the total")

    def _cut(self, stems: list[Path], start: int) -> Clip:
        """The clip from `start` in the first recording, or from the nearest place where all lines and frames
        are good; the next recording where there is none. One that cannot be read is passed over, with a
        warning."""
        for stem in stems:
            recording = self._read(stem)
            if recording is None:
                continue
            good = _starts(recording, self.config.frames)
            if len(good):
                begin = int(good[np.abs(good - start).argmin()])
                return self._clip(stem, recording, begin)
        raise ValueError(f"{self.config.folder}: no recording has {self.config.frames} good frames in a row")

    def _read(self, stem: Path) -> Any:
        """The recording, or None if nothing in it can be used."""
        if stem in self._bad:
            return None
        try:
            return _decoded(stem, frame_size(self.config.size))
        except (ValueError, OSError) as error:
            self._bad.add(stem)
            warnings.warn(f"left out: {error}", stacklevel=2)
            return None

    def _clip(self, stem: Path, recording: Any, start: int) -> Clip:
        from unified.tokenizers.environment_action import complete

        stop = start + self.config.frames
        actions = [complete(action) for action in recording.actions[start : stop - 1]]
        source = {"recording": stem.name, "start": start}
        return Clip(
            frames=recording.frames[start:stop], actions=actions, text=self.config.text, source=source
        )


@lru_cache(maxsize=KEPT_DECODED)
def _decoded(stem: Path, size: tuple[int, int]) -> Any:
    from unified.envs.recordings import ReadConfig, read_recording

    return read_recording(stem, ReadConfig(size=size))


def _starts(recording: Any, frames: int) -> np.ndarray:
    """First frames [n] of all windows whose frames exist and whose actions could be read."""
    steps = min(len(recording.actions), len(recording.frames) - 1)
    bad = np.concatenate([[0], np.cumsum(~recording.valid[:steps])])  # bad lines before each step
    starts = np.arange(max(steps - frames + 2, 0))
    return starts[bad[starts + frames - 1] == bad[starts]]
