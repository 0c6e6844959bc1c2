"""Recordings at a lower rate: of VPT's 20 frames a second those that a model of another rate is trained on.

Frame j is the one shown at time j / rate. Its action is all that was done until the next one that is kept:
angles of the camera add up, and a button is pressed if it was in any of the steps, so that no click is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import floor
from typing import TYPE_CHECKING

import numpy as np
from unified.tokenizers.environment_action import Action

if TYPE_CHECKING:
    from .reader import Step


def merged(actions: list[Action]) -> Action:
    """Several actions, one after the other, as one: buttons 0 or 1, `camera` in degrees."""
    names = dict.fromkeys(name for action in actions for name in action if name != "camera")
    pressed = {name: int(any(action.get(name, 0) for action in actions)) for name in names}
    camera = np.sum([np.asarray(action["camera"], dtype=np.float64) for action in actions], axis=0)
    return {**pressed, "camera": camera.astype(np.float32)}


def resampled(steps: Iterable[Step], recorded: float, rate: float) -> Iterator[Step]:
    """Steps recorded at `recorded` per second -> steps at `rate` per second, in constant memory; each is
    valid, or null, if all it is made of are. An action at the end that is not whole is left out. ValueError
    for a rate above the recorded one, or one that is not positive."""
    check_rate(recorded, rate)
    parts: list[Step] = []
    kept = seen = 0
    for step in steps:
        if seen >= _place(kept, recorded, rate):
            if parts:
                yield _joined(parts)
            parts, kept = [], kept + 1
        parts.append(step)
        seen += 1
    if parts:
        whole = seen >= _place(kept, recorded, rate) and all(step.action is not None for step in parts)
        yield _joined(parts) if whole else replace(parts[0], action=None, is_null=True, valid=False)


def _place(number: int, recorded: float, rate: float) -> int:
    """Which recorded frame is the one of this number."""
    return floor(number * recorded / rate + 1e-6)


def check_rate(recorded: float, rate: float) -> None:
    if not 0 < rate <= recorded:
        raise ValueError(
            f"a recording of {recorded:g} frames a second can be read at a positive rate of at most that, "
            f"got {rate:g}"
        )


def _joined(steps: list[Step]) -> Step:
    """The first frame of some steps, and what was done from there on."""
    actions = [step.action for step in steps if step.action is not None]
    return replace(
        steps[0],
        action=merged(actions) if actions else None,
        is_null=all(step.is_null for step in steps),
        valid=all(step.valid for step in steps),
    )
