"""Action tracks without a video: a `.jsonl` of recorder lines or environment actions, or Open-Oasis' tensor.

Open-Oasis stores the camera as (bin - 40) / 40 of its own quantiser (81 bins, maximum 20 degrees, mu 2.7).
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from unified.tokenizers.action import ActionConfig, ActionTokenizer
from unified.tokenizers.environment_action import BUTTONS, Action, complete

from .lines import action_of, read_lines
from .reader import REPAIRS
from .repair import Repair

OASIS = ActionConfig(camera_bins=81, camera_binsize=0.5, camera_maxval=20, camera_mu=2.7)
_CAMERA_COLUMNS = ("camera_pitch", "camera_yaw")


@dataclass(frozen=True, kw_only=True, repr=False)
class Track:
    """N actions; `valid` bool [N] is False where the line was unreadable, `problem` then says why."""

    actions: list[Action]
    valid: np.ndarray
    problem: str | None

    def __repr__(self) -> str:
        bad = int((~self.valid).sum())
        said = f", problem={reprlib.repr(self.problem)}" if self.problem else ""
        return f"Track({len(self.actions)} actions, {bad} not readable{said})"


def read_track(path: str | Path, repairs: tuple[Repair, ...] = REPAIRS) -> Track:
    """Actions of a file, camera float32 in degrees. Raises ValueError if nothing in it can be used."""
    path = Path(path)
    if path.suffix == ".safetensors":
        actions = _read_tensor(path)
        return Track(actions=actions, valid=np.ones(len(actions), dtype=bool), problem=None)
    read = read_lines(path)
    lines = read.lines
    for repair in repairs:
        lines = repair(lines)
    return Track(actions=[action_of(line)[0] for line in lines], valid=read.valid, problem=read.problem)


def _read_tensor(path: Path) -> list[Action]:
    """`actions` [N, 25]; the file's metadata names the columns."""
    try:
        with safe_open(str(path), "numpy") as file:
            columns = (file.metadata() or {}).get("columns", "").split(",")
            table = file.get_tensor("actions")
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    missing = [name for name in (*BUTTONS, *_CAMERA_COLUMNS) if name not in columns]
    if missing or table.ndim != 2 or table.shape[1] != len(columns):
        lack = f"column {missing[0]!r} is missing" if missing else f"shape {list(table.shape)}"
        raise ValueError(f"{path}: not an action track ({lack})")
    angles = table[:, [columns.index(name) for name in _CAMERA_COLUMNS]].astype(np.float64)
    camera = ActionTokenizer(OASIS).degrees(np.round(angles * 40) + 40)
    rows = table[:, [columns.index(name) for name in BUTTONS]]
    return [
        complete({**dict(zip(BUTTONS, row, strict=True)), "camera": camera[k]}) for k, row in enumerate(rows)
    ]
