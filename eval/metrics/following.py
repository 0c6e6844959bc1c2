"""Action following: how well actions read back from a video agree with those that were asked for.

The seven tasks, the macro F1 and the camera bins are those of MineWorld's evaluation (arXiv 2504.08388,
microsoft/mineworld): three ternary tasks (0: none or both, 1: first named, 2: second named) and four binary
ones, all frames of all clips pooled; a class that occurs neither in truth nor in prediction is left out; the
reported number is the unweighted mean over the tasks. Unlike there, a task whose truth has only one class
(no use in any clip) can be left out by `f1`'s `tasks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

TASKS: dict[str, tuple[str, ...]] = {
    "back/forward": ("back", "forward"),
    "left/right": ("left", "right"),
    "sneak/sprint": ("sneak", "sprint"),
    "use": ("use",),
    "attack": ("attack",),
    "jump": ("jump",),
    "drop": ("drop",),
}
CLASSES = {name: len(buttons) + 1 for name, buttons in TASKS.items()}
CAMERA_BINS, CAMERA_MOST, CAMERA_BIN, CAMERA_MU = 11, 10.0, 2.0, 10.0


def labels(actions: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The class of every action [N] for each of the seven tasks."""
    return {name: np.array([_class(action, buttons) for action in actions], np.int64)
            for name, buttons in TASKS.items()}  # fmt: skip


def _class(action: Mapping[str, Any], buttons: tuple[str, ...]) -> int:
    pressed = [number for number, name in enumerate(buttons, start=1) if action.get(name, 0) == 1]
    return pressed[0] if len(pressed) == 1 else 0


def camera_bins(actions: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """[N, 2]: pitch and yaw in VPT's 11 mu-law bins of +-10 degrees; more counts as 10."""
    angles = np.array([np.asarray(action["camera"], np.float64) for action in actions]).reshape(-1, 2)
    share = np.clip(angles, -CAMERA_MOST, CAMERA_MOST) / CAMERA_MOST
    bent = np.sign(share) * np.log1p(CAMERA_MU * np.abs(share)) / np.log1p(CAMERA_MU) * CAMERA_MOST
    return np.round((bent + CAMERA_MOST) / CAMERA_BIN).astype(np.int64)


def macro_f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Unweighted mean of the F1 of every class that occurs in either [N]."""
    scores = []
    for label in np.union1d(predicted, truth):
        hits = int(((predicted == label) & (truth == label)).sum())
        made, real = int((predicted == label).sum()), int((truth == label).sum())
        scores.append(2 * hits / (made + real))  # = 2PR / (P + R), and 0 without hits
    return float(np.mean(scores)) if scores else 0.0


def varied(truth: Mapping[str, np.ndarray], least: int = 1) -> list[str]:
    """The tasks of which at least two classes occur, each at least `least` times."""
    return [name for name, found in truth.items()
            if (np.bincount(found, minlength=CLASSES[name]) >= least).sum() > 1]  # fmt: skip


def f1(
    predicted: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray], tasks: Iterable[str] = tuple(TASKS)
) -> float:
    """Mean macro F1 over tasks. ValueError without any."""
    scores = [macro_f1(predicted[name], truth[name]) for name in tasks]
    if not scores:
        raise ValueError("no task in which the actions vary: nothing to follow, use more clips")
    return float(np.mean(scores))


def accuracy(
    predicted: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray], tasks: Iterable[str] = tuple(TASKS)
) -> float:
    """Mean over tasks of the share of frames that agree: for such labels micro precision = recall = F1."""
    return float(np.mean([(predicted[name] == truth[name]).mean() for name in tasks]))
