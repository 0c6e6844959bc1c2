"""Classes of actions: the seven tasks and the camera bins of MineWorld's evaluation (arXiv 2504.08388,
microsoft/mineworld): three ternary tasks (0: none or both, 1: first named, 2: second named) and four binary
ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def bin_degrees(label: int) -> float:
    """The angle at the middle of a camera bin."""
    share = label * CAMERA_BIN / CAMERA_MOST - 1
    return float(np.sign(share) * ((1 + CAMERA_MU) ** abs(share) - 1) / CAMERA_MU * CAMERA_MOST)
