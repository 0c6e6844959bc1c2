"""Game actions as ids: eleven per step, one per group of buttons that exclude each other.

Source: MineWorld (arXiv 2504.08388, section "action tokenizer"), whose camera quantiser comes from VPT (arXiv
2206.11795, appendix on the action space). `ActionConfig.mineworld()` reproduces the published ids; our
default differs in two ways: mouse moves keep their fractions of a degree (the published converter cuts them
to whole degrees) and the camera bins are finer near zero, so that those fractions survive.

Stage 1 turns a recorder line (keys, mouse pixels) into an environment action; stage 2 turns environment
actions (`environment_action.py`, whose names can be imported from here, too) into ids and back. Tests:
tests/tokenizers/test_action.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from unified.tokenizers.environment_action import (
    BUTTONS,
    CAMERA_LIMIT,
    HOTBAR,
    KEYS,
    MOUSE_BUTTONS,
    Action,
    batched,
    complete,
    read_recorder_line,
    stacked,
)

__all__ = [
    "BUTTONS",
    "CAMERA_LIMIT",
    "HOTBAR",
    "KEYS",
    "MOUSE_BUTTONS",
    "Action",
    "ActionConfig",
    "ActionTokenizer",
    "complete",
    "read_recorder_line",
]

# The order matters: jump + sneak + sprint first loses jump and sneak, so sprint survives.
CONFLICTS = (
    ("forward", "back"),
    ("left", "right"),
    ("jump", "sneak"),
    ("sprint", "sneak"),
    ("attack", "use"),
)
GROUPS = (
    HOTBAR,
    ("forward", "back"),
    ("left", "right"),
    ("sprint", "sneak"),
    ("use", "attack"),
    ("jump",),
    ("drop", "pickItem"),
)
"""What slots 3 to 9 hold; slots 0 and 10 are the markers, 1 is pitch, 2 is yaw."""

OPPOSITES = {"back": "forward", "left": "right", "right": "left", "sneak": "sprint"}
SLOTS = len(GROUPS) + 4
PITCH_SLOT, YAW_SLOT, FIRST_GROUP_SLOT = 1, 2, 3
BEGIN, NULL, END = "<act_bos>", "<null_act>", "<act_eos>"
MOST_BINS = 2**16  # of the camera: each has a name of its own


@dataclass(frozen=True, kw_only=True)
class ActionConfig:
    """Angles in degrees. Bin b of the camera is centred on `b * camera_binsize - camera_maxval`, after the
    mu-law for scheme "mu_law". `offset` is the first id of the actions in the vocabulary.

    The default has 81 bins, 0.06 degrees wide at zero: within +-1 degree the round trip is off by less than
    0.1 degree, and one pixel of the mouse (0.15 degrees) is never lost. `whole_degrees` is the published cut.
    """

    camera_bins: int = 81
    camera_binsize: float = 2.25
    camera_maxval: float = 90.0
    camera_mu: float = 200.0
    scheme: Literal["mu_law", "linear"] = "mu_law"
    whole_degrees: bool = False
    mouse_to_degrees: float = 360 / 2400
    offset: int = 0

    def __post_init__(self) -> None:
        names = ["camera_binsize", "camera_maxval", "mouse_to_degrees"]
        for name in [*names, "camera_mu"] if self.scheme == "mu_law" else names:
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        if self.scheme not in ("mu_law", "linear"):
            raise ValueError(f"scheme must be 'mu_law' or 'linear', got {self.scheme!r}")
        needed = round(2 * self.camera_maxval / self.camera_binsize) + 1
        if self.camera_bins < needed:
            raise ValueError(
                f"camera_bins must be at least {needed} for +-{self.camera_maxval:g} degrees in steps of "
                f"{self.camera_binsize:g}, got {self.camera_bins}"
            )
        if self.camera_bins > MOST_BINS:
            raise ValueError(f"camera_bins must be at most {MOST_BINS}, got {self.camera_bins}")
        if self.offset < 0:
            raise ValueError(f"offset must not be negative, got {self.offset}")

    @classmethod
    def mineworld(cls, offset: int = 8192) -> ActionConfig:
        """The published quantiser: 21 bins, whole degrees, ids behind 8192 visual codes."""
        return cls(
            camera_bins=21,
            camera_binsize=9,
            camera_mu=11.4887,
            whole_degrees=True,
            offset=offset,
        )


class ActionTokenizer:
    """Actions <-> ids. `vocabulary` names every id; `null` [11] is the step on which nothing is pressed."""

    slots = SLOTS

    def __init__(self, config: ActionConfig | None = None) -> None:
        self.config = config = config or ActionConfig()
        cameras = (f"cam_{axis}_{b}" for axis in (0, 1) for b in range(config.camera_bins))
        names = (*BUTTONS, *cameras, BEGIN, NULL, END)
        self.size = len(names)
        self.vocabulary = {name: config.offset + i for i, name in enumerate(names)}
        self._allowed = np.zeros((SLOTS, self.size), dtype=bool)
        for slot in range(SLOTS):
            self._allowed[slot, [i - config.offset for i in self.choices(slot)]] = True
        self.null = self.encode([{"camera": (0.0, 0.0)}])[0]

    def choices(self, slot: int) -> tuple[int, ...]:
        """The ids that may stand in a slot (0 to 10), in rising order but for null, which comes last."""
        if not 0 <= slot < SLOTS:
            raise ValueError(f"slot must lie in 0..{SLOTS - 1}, got {slot}")
        if slot in (0, SLOTS - 1):
            return (self.vocabulary[BEGIN if slot == 0 else END],)
        if slot in (PITCH_SLOT, YAW_SLOT):
            first = self.vocabulary[f"cam_{slot - PITCH_SLOT}_0"]
            return tuple(range(first, first + self.config.camera_bins))
        group = GROUPS[slot - FIRST_GROUP_SLOT]
        return (*sorted(self.vocabulary[name] for name in group), self.vocabulary[NULL])

    def encode(self, actions: Iterable[Mapping[str, Any]] | Mapping[str, Any]) -> Tensor:
        """Ids [N, 11], int64, of N environment actions: a list of dicts, or one dict of arrays (buttons [N],
        camera [N, 2]; one plain action is a batch of one). A button counts as pressed when it equals 1, a
        missing one is not pressed. Of several hotbar keys the lowest wins; two pressed buttons that share a
        slot are null; swapHands, inventory and ESC have ids but no slot.

        Raises ValueError on unknown keys, wrong shapes and cameras that are not finite."""
        buttons, camera = batched(actions) if isinstance(actions, Mapping) else stacked(actions)
        ids = np.empty((len(camera), SLOTS), dtype=np.int64)
        ids[:, 0], ids[:, -1] = self.vocabulary[BEGIN], self.vocabulary[END]
        first = [self.vocabulary["cam_0_0"], self.vocabulary["cam_1_0"]]
        ids[:, PITCH_SLOT : YAW_SLOT + 1] = self.bins(camera) + first
        for slot, group in enumerate(GROUPS, start=FIRST_GROUP_SLOT):
            pressed = np.stack([buttons[name] for name in group], axis=1)  # [N, buttons of the group]
            group_ids = np.array([self.vocabulary[name] for name in group])
            count = pressed.sum(axis=1)
            chosen = count > 0 if group is HOTBAR else count == 1
            ids[:, slot] = np.where(chosen, group_ids[pressed.argmax(axis=1)], self.vocabulary[NULL])
        return torch.from_numpy(ids)

    def decode(self, ids: Tensor | np.ndarray | Sequence[Any]) -> list[Action]:
        """The N actions of ids [N, 11] (or [11]): null is 0, the camera is the centre of its bin. Buttons
        are int, `camera` is float64 [2]. Raises ValueError naming the first id that cannot stand where it
        does."""
        table = self.decode_arrays(ids)
        camera = table.pop("camera")
        rows = zip(*(column.tolist() for column in table.values()), strict=True)
        return [{**dict(zip(table, row, strict=True)), "camera": camera[k]} for k, row in enumerate(rows)]

    def decode_arrays(self, ids: Tensor | np.ndarray | Sequence[Any]) -> dict[str, np.ndarray]:
        """As `decode`, but one dict of arrays: 23 buttons [N], int64, and `camera` [N, 2], float64."""
        local = self._local(ids)
        table = {name: np.zeros(len(local), dtype=np.int64) for name in BUTTONS}
        for slot, group in enumerate(GROUPS, start=FIRST_GROUP_SLOT):
            for name in group:
                table[name] = (local[:, slot] == BUTTONS.index(name)).astype(np.int64)
        first = len(BUTTONS) + np.array([0, self.config.camera_bins])
        table["camera"] = self.degrees(local[:, PITCH_SLOT : YAW_SLOT + 1] - first)
        return table

    def opposite(self, ids: Tensor) -> Tensor:
        """Ids [..., 11] with right for left, left for right, forward for back and sprint for sneak; all else
        as it is. Forward has no opposite: a model that sees it most of the time moves far enough by it."""
        found = ids.clone()
        for one, other in OPPOSITES.items():
            found[ids == self.vocabulary[one]] = self.vocabulary[other]
        return found

    def from_recorder(self, line: Mapping[str, Any]) -> tuple[Action, bool]:
        """Stage 1: the environment action of a recorder line, and whether the step counts as null.

        Buttons that contradict each other are cancelled. The flag marks steps that are left out of
        training: nothing happened, or the inventory or the menu key is down. Raises ValueError as
        `read_recorder_line` does."""
        config = self.config
        action, active = read_recorder_line(line, config.mouse_to_degrees)
        if config.whole_degrees:
            action["camera"] = np.trunc(action["camera"]).astype(np.int64)
        for one, other in CONFLICTS:
            if action[one] and action[other]:
                action[one] = action[other] = 0
        return action, not active or bool(action["inventory"] or action["ESC"])

    def bins(self, camera: np.ndarray | Sequence[Any]) -> np.ndarray:
        """Degrees, any shape -> bins (int64, same shape); angles beyond the maximum count as the maximum."""
        maximum = self.config.camera_maxval
        angle = np.clip(np.asarray(camera, dtype=np.float64), -maximum, maximum)
        if self.config.scheme == "mu_law":
            u = angle / maximum
            mu = self.config.camera_mu
            angle = np.sign(u) * (np.log(1.0 + mu * np.abs(u)) / np.log(1.0 + mu)) * maximum
        # np.round takes halves to the even bin, as the published code does.
        return np.round((angle + maximum) / self.config.camera_binsize).astype(np.int64)

    def degrees(self, bins: np.ndarray | Sequence[Any]) -> np.ndarray:
        """Centres of bins in degrees (float64, same shape); fractional bins give the edges between them."""
        maximum = self.config.camera_maxval
        angle = np.asarray(bins, dtype=np.float64) * self.config.camera_binsize - maximum
        if self.config.scheme == "linear":
            return angle
        v, mu = angle / maximum, self.config.camera_mu
        return np.sign(v) * ((1.0 + mu) ** np.abs(v) - 1.0) / mu * maximum

    def _local(self, ids: Tensor | np.ndarray | Sequence[Any]) -> np.ndarray:
        """Checked ids without the offset, [N, 11]."""
        array = np.asarray(ids)
        array = array[None] if array.ndim == 1 else array
        if array.ndim != 2 or array.shape[1] != SLOTS or array.dtype.kind not in "iu":
            raise ValueError(
                f"action ids must be integers [N, {SLOTS}], got {array.dtype} {list(array.shape)}"
            )
        local = array.astype(np.int64) - self.config.offset
        inside = (local >= 0) & (local < self.size)
        good = inside & self._allowed[np.arange(SLOTS), np.where(inside, local, 0)]
        if not good.all():
            row, slot = np.argwhere(~good)[0].tolist()
            reason = "may not stand in this slot" if inside[row, slot] else f"is outside the {self.size} ids"
            raise ValueError(f"action {row}, slot {slot}: id {array[row, slot]} {reason}")
        return local
