"""Pairing what should be there with what is there."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from unified.tasks.scenes.scene import ATTRIBUTES, SceneObject


def best_pairs(gain: np.ndarray) -> list[tuple[int, int]]:
    """One-to-one pairs (row, column) of largest total gain. gain [rows, columns]; every row or column is
    used."""
    if not gain.size:
        return []
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True)]


def distance(a: SceneObject, b: SceneObject) -> float:
    """Between two centres, as a fraction of the picture's sides."""
    return float(np.hypot(a.x - b.x, a.y - b.y))


def same_place(
    truth: tuple[SceneObject, ...], found: tuple[SceneObject, ...], within: float
) -> dict[int, int]:
    """Which found object stands where each true one should: indices of truth to indices of found."""
    gain = np.array([[within - distance(a, b) for b in found] for a in truth]).reshape(len(truth), len(found))
    return {i: j for i, j in best_pairs(np.maximum(gain, 0)) if gain[i, j] >= 0}


def alike(a: SceneObject, b: SceneObject) -> bool:
    """Whether all attributes but the place agree."""
    return all(getattr(a, name) == getattr(b, name) for name in ATTRIBUTES)
