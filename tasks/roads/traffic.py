"""A junction with boxes that drive along lanes: who is where at which time, and who touches whom.

Metres and seconds. x runs to the right, y downwards, as in pictures; headings are unit vectors. A path begins
on one of four approaches, goes straight on or turns, and is followed at a speed that is constant but for the
own box, which brakes where it must. Everything is exact: a position is a function of time.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

AREA = 32.0  # metres that a picture shows, from side to side
LANE = 4.0  # width of a lane; a road has two
LENGTH, WIDTH = 4.5, 2.0  # of a box
TURNS = ("straight", "left", "right")
HORIZON, STEP = 3.0, 0.5  # seconds of a plan, and between its waypoints
WAYPOINTS = 6
RATES = (1.0, 0.0, -1.5, -3.0, -5.0, -8.0)  # accelerations that the own box chooses from, m/s^2
FASTEST = 9.0  # m/s
MARGIN = 0.4  # metres that the own box keeps free around itself


@dataclass(frozen=True, kw_only=True)
class Box:
    """`approach`: 0 drives upwards, 1 to the right, 2 downwards, 3 to the left before the junction; `turn`
    there; `place`: metres along its path at time 0, the junction's edge being at 0; `speed` in m/s."""

    approach: int
    turn: str
    place: float
    speed: float

    def __post_init__(self) -> None:
        if self.approach not in range(4) or self.turn not in TURNS:
            raise ValueError(f"a box has an approach of 0 to 3 and a turn of {', '.join(TURNS)}, got {self}")
        if not (math.isfinite(self.place) and math.isfinite(self.speed) and self.speed >= 0):
            raise ValueError(f"a box needs a finite place and a speed of at least 0, got {self}")


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """`centre` of the junction in metres; `own`: the box that plans; `others`: what else drives."""

    centre: tuple[float, float]
    own: Box
    others: tuple[Box, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Traffic:
        """The inverse of `to_json`. Raises ValueError for anything else."""
        try:
            x, y = data["centre"]
            others = tuple(Box(**box) for box in data["others"])
            return Traffic(centre=(float(x), float(y)), own=Box(**data["own"]), others=others)
        except (TypeError, KeyError) as error:
            raise ValueError(f"not the data of traffic: {error}") from None

    def canonical(self) -> str:
        """As one string, which decides the split."""
        return json.dumps(self.to_json(), sort_keys=True)


# Where a box is -------------------------------------------------------------------------------------------


def pose(box: Box, along: float, centre: tuple[float, float]) -> np.ndarray:
    """[4]: x, y and heading (x, y) at so many metres along its path."""
    x, y, hx, hy = _canonical_pose(box.turn, along)
    for _ in range(box.approach):  # a quarter to the right: (x, y) -> (-y, x), with y downwards
        x, y, hx, hy = -y, x, -hy, hx
    return np.array([centre[0] + x, centre[1] + y, hx, hy])


def _canonical_pose(turn: str, along: float) -> tuple[float, float, float, float]:
    """Of a box that comes from below in the right lane of a junction around (0, 0)."""
    lane = LANE / 2
    if along <= 0 or turn == "straight":
        return lane, LANE - along, 0.0, -1.0
    radius = lane if turn == "right" else LANE + lane
    side = 1.0 if turn == "right" else -1.0
    angle = along / radius
    if angle < math.pi / 2:
        centre_x = lane + side * radius
        x = centre_x - side * radius * math.cos(angle)
        return x, LANE - radius * math.sin(angle), side * math.sin(angle), -math.cos(angle)
    rest = along - radius * math.pi / 2
    return side * (LANE + rest), LANE - radius, side, 0.0


def other_poses(traffic: Traffic, time: float) -> np.ndarray:
    """[N, 4] of all but the own box at a time."""
    found = [pose(box, box.place + box.speed * time, traffic.centre) for box in traffic.others]
    return np.array(found).reshape(-1, 4)


def travelled(speed: float, rate: float, time: float) -> float:
    """Metres after so many seconds (before time 0: at constant speed), no slower than standing and no faster
    than FASTEST."""
    if time <= 0 or rate == 0:
        return speed * time
    bound = (FASTEST if rate > 0 else 0.0) - speed
    until = max(0.0, bound / rate)
    first = min(time, until)
    return speed * first + rate * first**2 / 2 + (speed + bound) * (time - first)


def own_pose(traffic: Traffic, rate: float, time: float) -> np.ndarray:
    """[4] of the own box that changes its speed at this rate from time 0 on."""
    own = traffic.own
    return pose(own, own.place + travelled(own.speed, rate, time), traffic.centre)


# Who touches whom -----------------------------------------------------------------------------------------


def corners(at: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """[4, 2] of a box at a pose [4], wider by `margin` on all sides."""
    forward, right = at[2:], np.array([-at[3], at[2]])
    ahead, aside = forward * (LENGTH / 2 + margin), right * (WIDTH / 2 + margin)
    return at[:2] + np.stack([ahead + aside, ahead - aside, -ahead - aside, -ahead + aside])


def touch(one: np.ndarray, other: np.ndarray, margin: float = 0.0) -> bool:
    """Whether boxes at two poses [4] overlap: no axis of either separates them."""
    a, b = corners(one, margin), corners(other)
    for axis in (one[2:], [-one[3], one[2]], other[2:], [-other[3], other[2]]):
        first, second = a @ np.asarray(axis), b @ np.asarray(axis)
        if first.max() < second.min() or second.max() < first.min():
            return False
    return True


def collides(traffic: Traffic, own: np.ndarray, time: float, margin: float = 0.0) -> bool:
    """Whether the own box at a pose [4] touches another at this time."""
    return any(touch(own, other, margin) for other in other_poses(traffic, time))


def chosen_rate(traffic: Traffic) -> float | None:
    """The quickest acceleration that touches nobody within HORIZON, None if all do: what a good driver
    does."""
    times = np.arange(1, int(HORIZON / 0.25) + 1) * 0.25
    for rate in RATES:
        if not any(collides(traffic, own_pose(traffic, rate, t), t, MARGIN) for t in times):
            return rate
    return None


def waypoints(traffic: Traffic, rate: float) -> np.ndarray:
    """[6, 2]: where the own box is every half second, in metres to the right of and ahead of where it is at
    time 0."""
    start = own_pose(traffic, rate, 0.0)
    found = np.array([own_pose(traffic, rate, STEP * (n + 1))[:2] for n in range(WAYPOINTS)]) - start[:2]
    forward, right = start[2:], np.array([-start[3], start[2]])
    return np.stack([found @ right, found @ forward], axis=1)


def planned_poses(traffic: Traffic, plan: np.ndarray) -> np.ndarray:
    """[6, 4]: poses of a plan [6, 2] as of `waypoints`; a box heads where it came from, and while it stands
    where it headed before."""
    start = own_pose(traffic, 0.0, 0.0)
    forward, right = start[2:], np.array([-start[3], start[2]])
    places = start[:2] + plan[:, :1] * right + plan[:, 1:] * forward
    found, before, heading = [], start[:2], forward
    for place in places:
        step = place - before
        if (length := float(np.hypot(*step))) > 0.2:
            heading = step / length
        found.append(np.concatenate([place, heading]))
        before = place
    return np.array(found)
