"""Reads recordings: frames and actions paired, quirks repaired, damaged parts left out and named.

`fps` states the video's rate, one line is one frame whatever it is (VPT: 20 per second). Nothing is resampled
unless `ReadConfig.rate` asks for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from unified.tokenizers.environment_action import Action

from unified.text_files import at_home, read_object

from .cursor import blend_cursor, needs_cursor
from .lines import Line, action_of, read_lines
from .repair import REPAIRS, Repair, scale_gui_mouse
from .resample import check_rate, resampled
from .video import VideoReader, resize
from .writer import found_part


@dataclass(frozen=True, kw_only=True)
class ReadConfig:
    """`size` is (height, width) of the frames handed out, None as stored. `recorder_version` ("6.8") is
    needed for some old versions, see `repair.scale_gui_mouse`. `pairing` "led_to_frame" is for clips whose
    line k says how frame k came about (MineWorld's evaluation script): their line 0 is dropped, so that here,
    too, action k acts on frame k. `rate`: frames a second to hand out (`resample`), None as stored.
    """

    size: tuple[int, int] | None = None
    antialias: bool = True
    draw_cursor: bool = True
    repairs: tuple[Repair, ...] = REPAIRS
    recorder_version: str | None = None
    pairing: Literal["acts_on_frame", "led_to_frame"] = "acts_on_frame"
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ValueError(f"size must be (height, width), both positive, got {self.size}")
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate must be positive, got {self.rate}")
        version = self.recorder_version
        if version is not None and not (isinstance(version, str) and version):
            raise ValueError(f"recorder_version must be a text such as '6.8', got {version!r}")
        if self.pairing not in ("acts_on_frame", "led_to_frame"):
            raise ValueError(f"pairing must be 'acts_on_frame' or 'led_to_frame', got {self.pairing!r}")


@dataclass(frozen=True, repr=False)
class Step:
    """Frame `index` [H, W, 3] and the action taken on it. The closing frame has action None. `valid` is
    False where the line could not be read (its action is then empty); `is_null` marks steps that training
    leaves out."""

    index: int
    frame: np.ndarray
    action: Action | None
    is_null: bool
    valid: bool

    def __repr__(self) -> str:
        kind = "closing frame" if self.action is None else "null step" if self.is_null else "step"
        size = " x ".join(map(str, self.frame.shape[:2]))
        return f"Step({self.index}: {kind}, frame of {size}{'' if self.valid else ', line not readable'})"


@dataclass(frozen=True, repr=False)
class Transition:
    """`action`, taken on `frame`, led to `next_frame` (both uint8 [H, W, 3])."""

    frame: np.ndarray
    action: Action
    next_frame: np.ndarray

    def __repr__(self) -> str:
        pressed = [name for name, value in self.action.items() if name != "camera" and value]
        size = " x ".join(map(str, self.frame.shape[:2]))
        return f"Transition(frames of {size}, {', '.join(pressed) or 'no key'} pressed)"


class RecordingStream:
    """The steps of one recording, frame by frame, in constant memory. `lines`, `actions`, `is_null` and
    `valid` are those of the file, whatever the rate.

    `problems` names what was left out; it is complete when an iteration has reached the end. Raises
    ValueError if a file is missing or holds nothing usable.
    """

    def __init__(self, stem: str | Path, config: ReadConfig | None = None) -> None:
        self.stem = _stem(stem)
        self.config = config or ReadConfig()
        read = read_lines(found_part(self.stem, "jsonl"))
        first = 1 if self.config.pairing == "led_to_frame" else 0
        self.lines = self._repaired(read.lines)[first:]
        self.valid = read.valid[first:]
        converted = [action_of(line) for line in self.lines]
        self.actions = [action for action, _ in converted]
        self.is_null = np.array([null for _, null in converted], dtype=bool)
        self.meta = _read_meta(found_part(self.stem, "meta.json"))
        self._video = VideoReader(found_part(self.stem, "mp4"))
        self.fps = self._video.fps
        if self.config.rate is not None:
            check_rate(self.fps, self.config.rate)
        self._line_problems = [read.problem] if read.problem else []
        self._line_faults = read.faults
        self.problems = list(self._line_problems)

    def __iter__(self) -> Iterator[Step]:
        rate = self.config.rate
        return self._steps() if rate is None else resampled(self._steps(), self.fps, rate)

    def _steps(self) -> Iterator[Step]:
        self.problems = list(self._line_problems)
        count = 0
        for index, frame in enumerate(self._video):
            count = index + 1
            if index < len(self.lines):
                shown = self._prepare(frame, self.lines[index])
                yield Step(
                    index, shown, self.actions[index], bool(self.is_null[index]), bool(self.valid[index])
                )
            elif index == len(self.lines):
                yield Step(index, self._prepare(frame, None), None, True, False)
        self.problems += self._count_problems(count)

    @property
    def faults(self) -> list[str]:
        """`problems` with one sentence for each unreadable line."""
        return [*self._line_faults, *self.problems[len(self._line_problems) :]]

    def _repaired(self, lines: list[Line]) -> list[Line]:
        for repair in self.config.repairs:
            lines = repair(lines)
        version = self.config.recorder_version
        return scale_gui_mouse(lines, version) if version else lines

    def _prepare(self, frame: np.ndarray, line: Line | None) -> np.ndarray:
        """The cursor is blended at the stored size, then the frame is resized."""
        if line is not None and self.config.draw_cursor and needs_cursor(line):
            frame = blend_cursor(frame, line["mouse"]["x"], line["mouse"]["y"])
        size = self.config.size
        return frame if size is None else resize(frame, size, antialias=self.config.antialias)

    def _count_problems(self, frames: int) -> list[str]:
        """At most one sentence on how the video's length differs from the lines'."""
        fault = self._video.fault
        spare = frames - len(self.lines)
        broken = f"breaks off ({fault})" if fault else "ends"
        if spare < 0:
            lost = f"lines without a frame are left out ({-spare} of {len(self.lines)})"
            return [f"{self._video.path}: the video {broken} after {frames} frames; {lost}"]
        if spare > 1:
            return [f"{self._video.path}: {spare} frames after the last line; all but the first are left out"]
        return [f"{self._video.path}: the video {broken} after {frames} frames"] if fault else []


@dataclass(frozen=True, kw_only=True, repr=False)
class Recording:
    """frames uint8 [F, H, W, 3]; A actions, A = F or F - 1 (with a closing frame): action k is taken on
    frame k and its effect is seen in frame k + 1. `is_null` and `valid` are bool [A], see `Step`; `lines`
    are the repaired lines."""

    frames: np.ndarray
    actions: list[Action]
    is_null: np.ndarray
    valid: np.ndarray
    lines: list[Line]
    fps: float
    problems: list[str]
    meta: dict[str, Any]

    def __repr__(self) -> str:
        count, size = len(self.frames), " x ".join(map(str, self.frames.shape[1:3]))
        bad, found = int((~self.valid).sum()), len(self.problems)
        return (
            f"Recording({count} frames of {size} at {self.fps:g} fps, {len(self.actions)} actions, "
            f"{bad} not readable, {found} problems)"
        )

    def transitions(self, *, skip_null: bool = False) -> Iterator[Transition]:
        """(frame k, action k, frame k + 1) for every k whose line is valid; `skip_null` also leaves null
        steps out."""
        for k in range(min(len(self.actions), len(self.frames) - 1)):
            if self.valid[k] and not (skip_null and self.is_null[k]):
                yield Transition(self.frames[k], self.actions[k], self.frames[k + 1])


def read_recording(stem: str | Path, config: ReadConfig | None = None) -> Recording:
    """The whole recording in memory (5 minutes at 640 x 360 are 4 GB: give a `size`, or use
    `RecordingStream`).

    `stem` is the common name, with or without `.mp4` or `.jsonl`. Raises ValueError when nothing can be
    kept."""
    stream = RecordingStream(stem, config)
    steps = list(stream)
    if not steps:
        raise ValueError("; ".join(stream.problems) or f"{stream.stem}: the video holds no frame")
    acted = [(step, step.action) for step in steps if step.action is not None]
    return Recording(
        frames=np.stack([step.frame for step in steps]),
        actions=[action for _, action in acted],
        is_null=np.array([step.is_null for step, _ in acted], dtype=bool),
        valid=np.array([step.valid for step, _ in acted], dtype=bool),
        lines=[stream.lines[step.index] for step, _ in acted],
        fps=stream.fps if stream.config.rate is None else stream.config.rate,
        problems=stream.problems,
        meta=stream.meta,
    )


def find_recordings(folder: str | Path) -> list[Path]:
    """The stems of a folder's recordings (an mp4 and a jsonl of one name), sorted. Raises ValueError if
    there is none."""
    folder = at_home(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: not a folder")
    videos = [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".mp4"]
    stems = [_stem(path) for path in videos if not path.name.startswith(".")]
    paired = [stem for stem in stems if found_part(stem, "jsonl").is_file()]
    if not paired:
        raise ValueError(f"{folder}: no recording, that is no .mp4 with a .jsonl of the same name")
    return paired


def read_folder(
    folder: str | Path, config: ReadConfig | None = None, on_problem: Callable[[str], None] = warnings.warn
) -> Iterator[Recording]:
    """The readable recordings of a folder, one after the other; each problem is one call of `on_problem`."""
    for stem in find_recordings(folder):
        try:
            recording = read_recording(stem, config)
        except ValueError as error:
            on_problem(str(error))
            continue
        for problem in recording.problems:
            on_problem(problem)
        yield recording


def _stem(path: str | Path) -> Path:
    path = Path(path)
    return path.with_suffix("") if path.suffix.lower() in (".mp4", ".jsonl") else path


def _read_meta(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return read_object(path)
    except ValueError as error:
        raise ValueError(f"{error}; remove it to read the recording without it") from None
