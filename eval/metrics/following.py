"""Action following: how well actions read back from a video agree with those that were asked for.

The macro F1 is that of MineWorld's evaluation (arXiv 2504.08388, microsoft/mineworld) over its seven tasks
(`unified.tasks.worlds.action_classes`), all frames of all clips pooled; a class that occurs neither in truth
nor in prediction is left out; the reported number is the unweighted mean over the tasks. Unlike there, a task
whose truth has only one class (no use in any clip) can be left out by `f1`'s `tasks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from unified.tasks.worlds.action_classes import CLASSES, TASKS


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


def by_key(
    predicted: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """For each button of the seven tasks how often it was pressed ("count"), and precision, recall and F1 of
    reading it back, 0 where there is nothing to divide by."""
    found = {}
    for name, buttons in TASKS.items():
        for label, button in enumerate(buttons, start=1):
            made, real = predicted[name] == label, truth[name] == label
            hits, read, pressed = int((made & real).sum()), int(made.sum()), int(real.sum())
            found[button] = {
                "count": pressed,
                "precision": hits / read if read else 0.0,
                "recall": hits / pressed if pressed else 0.0,
                "f1": 2 * hits / (read + pressed) if read + pressed else 0.0,
            }
    return found


def by_bin(predicted: np.ndarray, truth: np.ndarray) -> dict[int, dict[str, float]]:
    """For each true camera bin that occurs how often it does ("count"), the share that is read back exactly,
    and the mean of the bins that are read. predicted and truth [N]."""
    return {
        int(label): {
            "count": int((truth == label).sum()),
            "exact": float((predicted[truth == label] == label).mean()),
            "read": float(predicted[truth == label].mean()),
        }
        for label in np.unique(truth)
    }
