"""A contact sheet of a task: `python -m unified.tasks show NAME`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image
from unified.tasks.panels import frame_step, panels
from unified.tasks.registry import TASKS, make, option_names
from unified.tasks.sample import Sample
from unified.tasks.sheet import Sheet

CAPTION = "ground truth: made by the task, not by a model"
SIZE_OPTIONS = ("size", "image_size")  # how configurations call the side of a picture
DEFAULT_SIZE = 160
CLIP_FRAMES = 22  # a good second: enough to see what happens
MOST = 200


def show(
    name: str,
    *,
    count: int = 6,
    split: str = "train",
    seed: int = 0,
    size: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Image.Image:
    """The first `count` samples of a task as one picture, which says that they are ground truth. `size` is
    the side of the pictures in pixels; `options` are those of the task and win over both. Raises ValueError
    as `registry.make` does."""
    if not 1 <= count <= MOST:
        raise ValueError(f"count must lie in 1 to {MOST}, got {count}")
    known = option_names(name) if name in TASKS else []
    defaults: dict[str, Any] = {"seed": seed, "frames": CLIP_FRAMES}
    defaults |= dict.fromkeys(SIZE_OPTIONS, DEFAULT_SIZE if size is None else size)
    chosen = {key: value for key, value in defaults.items() if key in known}
    task = make(name, **{**chosen, **(options or {})})
    samples = [task.sample(index, split) for index in range(count)]
    step = frame_step(samples[0])
    return sheet(samples, name.replace("_", " ") + (f", one frame in {step}" if step > 1 else ""), CAPTION)


def sheet(samples: Iterable[Sample], title: str, caption: str = "") -> Image.Image:
    """Any samples as one picture, RGB, with a caption. Raises ValueError if there are none."""
    shown = [panels(sample) for sample in samples]
    if not shown:
        raise ValueError("no samples to show")
    return Sheet(shown).draw(title, caption)
