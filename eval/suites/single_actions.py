"""One action from one frame: whether it is obeyed where no clip of a player tells.

Every action is also left undone in the same world at the same moment. A frame that obeys is nearer to what
the action does than to what nothing does; a model that ignores the key scores 0, one that draws fog about a
half. Fast turns, the hotbar and the inventory are hardly ever used by players, so that their part in any mean
over clips is small, and the inverse dynamics model reads turns of at most 10 degrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from unified.eval.measurement import Cell, Result, Run, Table
from unified.eval.metrics.images import decibel, squared_error
from unified.eval.suites.imagining import IMAGINED, NUCLEUS, PASSED, SAMPLED, Frames, imagined, passed
from unified.eval.suites.scripted import branched_clips, clip_count
from unified.tasks.worlds.clips import Clip
from unified.tokenizers.action import complete

NOTHING = "nothing"
ACTIONS: dict[str, dict[str, Any]] = {
    NOTHING: {},
    **{f"yaw {angle:+d}": {"camera": (0.0, float(angle))} for angle in (-30, -20, -10, 10, 20, 30)},
    **{f"pitch {angle:+d}": {"camera": (float(angle), 0.0)} for angle in (-30, 30)},
    **{f"hotbar.{number}": {f"hotbar.{number}": 1} for number in (2, 5, 9)},
    "inventory": {"inventory": 1},
}


def add_single_actions(run: Run, result: Result) -> None:
    """Every action on as many frames as there are clips of a script, as a table and numbers of a result."""
    scripts = [[complete(action)] for action in ACTIONS.values()]
    found = branched_clips(clip_count(run), run.split, run.assistant.side, scripts)
    by_action = dict(zip(ACTIONS, zip(*found, strict=True), strict=True))
    undone = by_action.pop(NOTHING)
    numbers = {name: obeyed(run, clips, undone) for name, clips in by_action.items()}
    names = (IMAGINED, SAMPLED, PASSED)
    rows: list[list[Cell]] = [
        [
            action,
            one["frames"],
            *(one["nearer"][name] for name in names),
            *(one["above"][name] for name in names[:2]),
        ]
        for action, one in numbers.items()
        if one["frames"]
    ]
    header = ["", "frames", *(f"nearer: {name}" for name in names), *(f"dB: {name}" for name in names[:2])]
    title = "One action from one frame: share nearer to it than to nothing, and PSNR above nothing"
    result.tables.append(Table(title, header, rows))
    result.numbers["single_actions"] = numbers


def obeyed(run: Run, clips: Sequence[Clip], undone: Sequence[Clip]) -> dict[str, Any]:
    """Of clips of one step, beside the same step without an action: `frames` on which the action does
    anything, and on these by way of making frames the share `nearer` to the true outcome than to that of
    nothing, and the decibels `above` the latter."""
    pairs = [
        pair for pair in zip(clips, undone, strict=True) if not np.array_equal(_last(pair[0]), _last(pair[1]))
    ]
    chosen = [clip for clip, _ in pairs]
    if not chosen:
        return {"frames": 0, "nearer": {}, "above": {}}
    ways: dict[str, Frames] = {
        IMAGINED: imagined(run, chosen, 1),
        SAMPLED: imagined(run, chosen, 1, sampler=NUCLEUS),
        PASSED: [passed(run, clip.frames[1:]) for clip in chosen],
    }
    nothing = np.stack([_last(clip) for _, clip in pairs])
    truth = np.stack([_last(clip) for clip in chosen])
    found: dict[str, Any] = {"frames": len(chosen), "nearer": {}, "above": {}}
    for name, frames in ways.items():
        made = np.stack([frame[0] for frame in frames])
        near = [
            squared_error(own, true) < squared_error(own, other)
            for own, true, other in zip(made, truth, nothing, strict=True)
        ]
        found["nearer"][name] = float(np.mean(near))
        found["above"][name] = decibel(squared_error(made, truth)) - decibel(squared_error(nothing, truth))
    return found


def _last(clip: Clip) -> np.ndarray:
    return clip.frames[-1]
