"""The tasks' own scorers as rewards: the scene parser, the maze walker, action following."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from unified.tasks.sample import Sample
from unified.tasks.worlds import inverse

# Whose mean is the reward, where that is not the mean of all scores that a task gives.
SCORES: dict[str, tuple[str, ...]] = {
    "maze": ("goal_reached", "progress"),
    "maze_text": ("goal_reached", "progress"),
    "frozen_lake": ("goal_reached", "progress"),
    "world_frames": ("psnr",),
    "world_actions": ("buttons",),
    "world_play": ("buttons",),
}
FOLLOWS = "follows"


class TaskReward:
    """The mean of some of a task's scores: those named, else those of `SCORES`, else all. `following`: an
    inverse dynamics model (file) that reads the action back from the frame that was drawn; the share of its
    classes that are right is a further score, `follows`, which is then the reward of frames."""

    def __init__(self, task: Any, names: Sequence[str] = (), following: str | Path | None = None) -> None:
        self.task = task
        self.reader = inverse.load(Path(following)) if following else None
        self.names = tuple(names) or ((FOLLOWS,) if self.reader else SCORES.get(task.name, ()))

    def __call__(self, sample: Sample, answer: list[dict[str, Any]]) -> float:
        """ValueError for a score that the task does not give."""
        scores = self.task.score(sample, answer)
        if self.reader is not None:
            scores = {**scores, FOLLOWS: follows(self.reader, sample, answer)}
        unknown = [name for name in self.names if name not in scores]
        if unknown:
            given = ", ".join(scores)
            raise ValueError(
                f"the task {self.task.name} gives no score {unknown[0]!r} here: it gives {given}"
            )
        return float(np.mean([scores[name] for name in self.names or scores]))


def follows(reader: inverse.InverseModel, sample: Sample, answer: list[dict[str, Any]]) -> float:
    """Share of the classes of the last action that are read back from the last frame before it and the one
    drawn; 0 without one."""
    before = [item for message in sample.messages[:-1] for item in message["content"]]
    frames = [item["image"] for item in before if item["type"] == "image"]
    actions = [item["action"] for item in before if item["type"] == "action"]
    drawn = [item["image"] for item in answer if item["type"] == "image"]
    if not frames or not actions:
        raise ValueError(f"the task {sample.task} asks for no frame after an action: it cannot be followed")
    if not drawn or drawn[-1].shape != frames[-1].shape:
        return 0.0
    read = reader.read(np.stack([frames[-1], drawn[-1]]))
    truth = inverse.truth_of(actions[-1:])
    return float(np.mean([read[name][0] == truth[name][0] for name in truth]))
