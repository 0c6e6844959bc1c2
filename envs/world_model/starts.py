"""Where an imagined episode starts: from an image, a clip, a recording, a state, a data set, or words."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from unified.tokenizers.images import to_images, to_uint8

from unified.apps.assistant import Assistant
from unified.apps.pictures import open_picture

FILES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"}
RECORDINGS = {".mp4", ".jsonl"}
BLACK = (0, 0, 0)
Action = Mapping[str, Any]


@dataclass(frozen=True)
class Start:
    """Known frames, uint8 [H, W, 3] each, and the actions between them, one fewer."""

    frames: list[np.ndarray]
    actions: list[Action]


class Starts:
    """Makes starts of frames of `size` (height, width). `default`: what episodes start from unless a reset
    says otherwise:

    None                                   the voxel world, reset
    an image, or the path of one           uint8 [H, W, 3], a Pillow image, a tensor, ...
    a clip                                 (frames, actions), {"frames": ..., "actions": ...}, or an object
                                           with these attributes
    the path of a recording                a random moment of it, with the steps before it
    a state of the voxel world             what is seen in it
    a data set or a list                   a random entry, which is any of these or has an "image"
    a function of a random generator       what it returns, which is any of these
    any other text                         an image of it, drawn by the model

    Images of another aspect ratio are letterboxed; a warning says so once."""

    def __init__(self, assistant: Assistant, size: tuple[int, int], default: Any, known: int) -> None:
        self.assistant, self.size, self.default, self.known = assistant, size, default, known
        self._voxel: Any = None
        self._recordings: dict[str, Any] = {}
        self._warned = False

    def draw(self, rng: np.random.Generator, options: Mapping[str, Any] | None = None) -> Start:
        """A start for one episode. `options` of a reset: `start`, `frame`, or `frames` with `actions`.
        ValueError, in one line, for what is no start."""
        if not isinstance(options, Mapping | None):
            raise ValueError(f"options of a reset must be a dictionary, got {type(options).__name__}")
        options = dict(options or {})
        kinds = [name for name in ("start", "frame", "frames") if name in options]
        unknown = [str(name) for name in options if name not in ("start", "frame", "frames", "actions")]
        if unknown or len(kinds) > 1 or ("actions" in options and kinds != ["frames"]):
            problem = (
                f"unknown option {unknown[0]!r}" if unknown else f"both {' and '.join(map(repr, options))}"
            )
            raise ValueError(f"reset takes 'start', 'frame', or 'frames' with 'actions': got {problem}")
        if kinds == ["frames"]:
            return self._clip(options["frames"], options.get("actions", ()))
        if kinds == ["frame"]:
            return Start([self.image(options["frame"])], [])
        return self._resolved(options.get("start", self.default), rng)

    def _resolved(self, source: Any, rng: np.random.Generator, depth: int = 0) -> Start:
        if depth > 8:
            raise ValueError("a start leads to a start that leads to a start ...: give frames in the end")
        if source is None:
            return Start([self._voxel_frame(rng)], [])
        if isinstance(source, (str, Path)):
            return self._text(source, rng)
        if isinstance(source, Mapping):
            return self._mapping(source, rng, depth)
        if callable(source) and not hasattr(source, "__array__"):
            return self._resolved(_called(source, rng), rng, depth + 1)
        if isinstance(source, tuple) and len(source) == 2:
            return self._clip(*source)
        if hasattr(source, "frames") and hasattr(source, "actions"):
            return self._clip(source.frames, source.actions)
        if hasattr(source, "messages"):
            return self._resolved(_first_image(source.messages), rng, depth + 1)
        if not hasattr(source, "__array__") and hasattr(source, "__getitem__") and hasattr(source, "__len__"):
            if not len(source):
                raise ValueError("a start of no entries: the data set or list is empty")
            return self._resolved(source[int(rng.integers(len(source)))], rng, depth + 1)
        return Start([self.image(source)], [])

    def _mapping(self, source: Mapping[str, Any], rng: np.random.Generator, depth: int) -> Start:
        if "frames" in source:
            return self._clip(source["frames"], source.get("actions", ()))
        if "blocks" in source and "body" in source:
            return Start([self._voxel_frame(rng, source)], [])
        if "messages" in source:
            return self._resolved(_first_image(source["messages"]), rng, depth + 1)
        for name in ("image", "frame", "pov"):
            if name in source:
                return Start([self.image(source[name])], [])
        names = ", ".join(sorted(map(str, source))) or "nothing"
        raise ValueError(f"a start with 'frames', 'image' or a state of the voxel world: got {names}")

    def _text(self, source: str | Path, rng: np.random.Generator) -> Start:
        # os.path, since words may be longer than any name of a file, which pathlib takes for an error
        if isinstance(source, str) and not source.strip():
            raise ValueError("words to start from must say something")
        suffix = Path(source).suffix.lower()
        named = Path(source).name not in ("", "..")
        parts = [Path(source).with_suffix(end) for end in sorted(RECORDINGS)] if named else []
        if suffix in RECORDINGS or (named and all(map(os.path.isfile, parts))):
            return self._recording(Path(source), rng)
        if os.path.isdir(source):
            raise ValueError(f"{source} is a folder: name an image or a recording in it")
        if isinstance(source, Path) or suffix in FILES or os.path.isfile(source):
            return Start([self.image(source)], [])
        return Start([self._fitted(self.assistant.draw(source, size=self.size, tries=1))], [])

    def _recording(self, stem: Path, rng: np.random.Generator) -> Start:
        """A random moment whose line is readable, and the readable steps right before it."""
        from unified.envs.recordings import ReadConfig, read_recording

        if str(stem) not in self._recordings:
            self._recordings = {str(stem): read_recording(stem, ReadConfig(size=self.size))}
        found = self._recordings[str(stem)]
        readable = np.ones(len(found.frames), dtype=bool)  # the closing frame has no line
        readable[: len(found.valid)] = found.valid
        moments = np.flatnonzero(readable)
        if not len(moments):
            raise ValueError(f"{stem}: no frame with a readable line to start from")
        last = int(moments[rng.integers(len(moments))])
        first = last
        while first > 0 and last - first + 1 < self.known and found.valid[first - 1]:
            first -= 1
        return self._clip(list(found.frames[first : last + 1]), found.actions[first:last])

    def _clip(self, frames: Any, actions: Any) -> Start:
        if not isinstance(frames, (Sequence, np.ndarray)) or not len(frames):
            raise ValueError("a start needs at least one frame")
        if not isinstance(actions, Sequence | np.ndarray):
            raise ValueError(f"actions must be a sequence of dictionaries, got {type(actions).__name__}")
        actions = list(actions)
        if len(actions) != len(frames) - 1:
            raise ValueError(
                f"n known frames have n - 1 actions between them, got {len(frames)} and {len(actions)}"
            )
        kept = slice(max(0, len(frames) - self.known), None)
        return Start([self.image(frame) for frame in frames[kept]], actions[kept])

    def _voxel_frame(self, rng: np.random.Generator, state: Mapping[str, Any] | None = None) -> np.ndarray:
        try:
            from unified.envs.voxel import VoxelEnv
        except ImportError as error:
            raise ValueError(f"episodes start in the voxel world unless a start is given: {error}") from None
        height, width = self.size
        if state is not None:
            world = VoxelEnv(width=width, height=height, world_size=tuple(np.shape(state["blocks"])))
            return world.reset(options={"state": state})[0]["pov"]
        self._voxel = self._voxel or VoxelEnv(width=width, height=height)
        return self._voxel.reset(seed=int(rng.integers(2**31)))[0]["pov"]

    def image(self, source: Any) -> np.ndarray:
        """Any image, or the path of one, at the size of the frames: uint8 [H, W, 3]. ValueError for
        others."""
        if isinstance(source, (str, Path)):
            return self._fitted(open_picture(source).image)
        try:
            images = to_images(source)
        except (TypeError, ValueError) as error:
            raise ValueError(f"not a start: {str(error).splitlines()[0]}") from None
        if len(images) != 1:
            raise ValueError(f"one image at a time, got a batch of {len(images)}")
        return self._fitted(to_uint8(images)[0])

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        """The image at the size of the frames; bands of black where its aspect ratio is another."""
        height, width = self.size
        if image.shape[:2] == (height, width):
            return image
        scale = min(height / image.shape[0], width / image.shape[1])
        inner = [max(1, round(length * scale)) for length in image.shape[:2]]
        resized = Image.fromarray(image).resize((inner[1], inner[0]), Image.Resampling.BICUBIC)
        if inner != [height, width] and not self._warned:
            self._warned = True
            warnings.warn(
                f"images of {image.shape[0]} x {image.shape[1]} pixels are letterboxed to {height} x {width}",
                stacklevel=2,
            )
        whole = Image.new("RGB", (width, height), BLACK)
        whole.paste(resized, ((width - inner[1]) // 2, (height - inner[0]) // 2))
        return np.asarray(whole)


def _called(function: Callable[..., Any], rng: np.random.Generator) -> Any:
    found = function(rng)
    if found is None:
        raise ValueError("a start that is a function must return a start, got None")
    return found


def _first_image(messages: Sequence[Mapping[str, Any]]) -> Any:
    """The first image of a conversation."""
    items = (item for message in messages for item in message["content"])
    found = next((item["image"] for item in items if isinstance(item, Mapping) and "image" in item), None)
    if found is None:
        raise ValueError("a conversation without an image is no start")
    return found
