"""The task `road`: what will the road look like, and where do I drive? A future picture, then six waypoints.

The form of FutureSightDrive (arXiv 2505.17685) on a toy: pictures of the past half second and of now, the
goal in words; the answer is the picture `ahead` seconds later and a plan of three seconds. The driver of the
labels takes the quickest of six accelerations that touches nobody. Traffic decides the split by hash; the
compositional split has more boxes than any other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from unified.tasks.packing import check_image
from unified.tasks.roads.render import draw
from unified.tasks.roads.traffic import (
    STEP,
    TURNS,
    WAYPOINTS,
    Box,
    Traffic,
    chosen_rate,
    collides,
    other_poses,
    own_pose,
    planned_poses,
    touch,
    waypoints,
)
from unified.tasks.sample import Sample, check_index, check_split, generator, split_of
from unified.tasks.scenes.choice import pick
from unified.tasks.worlds.scoring import psnr

MOST_DRAWS = 10_000
MOST_BOXES = 5
HORIZONS = (1, 2, 3)  # seconds
NUMBER = r"(-?\d+(?:\.\d+)?)"
PAIR = re.compile(f"{NUMBER},{NUMBER}")
Content = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class RoadConfig:
    """`size`: side of a picture in pixels; `ahead`: seconds to the picture that is drawn; `boxes`: how many
    others there are, `unseen_boxes` in the compositional split."""

    seed: int = 0
    size: int = 64
    ahead: float = 1.5
    boxes: tuple[int, ...] = (2, 3)
    unseen_boxes: tuple[int, ...] = (4, 5)

    def __post_init__(self) -> None:
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {self.seed!r}")
        if type(self.size) is not int or not 16 <= self.size <= 512:
            raise ValueError(f"size must be 16 to 512 pixels, got {self.size!r}")
        if not isinstance(self.ahead, int | float) or not 0 < self.ahead <= 3:
            raise ValueError(f"ahead must be above 0 and at most 3 seconds, got {self.ahead!r}")
        for name, numbers in (("boxes", self.boxes), ("unseen_boxes", self.unseen_boxes)):
            if not numbers or any(type(n) is not int or not 0 <= n <= MOST_BOXES for n in numbers):
                raise ValueError(f"{name} must be whole numbers of 0 to {MOST_BOXES}, got {numbers!r}")
        if both := set(self.boxes) & set(self.unseen_boxes):
            raise ValueError(f"boxes and unseen_boxes share {sorted(both)}: unseen must not be trained on")


@dataclass(frozen=True)
class Drive:
    """Traffic and what its driver does: `rate` in m/s^2, `plan` [6, 2] in metres."""

    traffic: Traffic
    rate: float
    plan: np.ndarray


def drive(config: RoadConfig, index: int, split: str) -> Drive:
    """The drive with this number, the same every time."""
    check_split(split)
    check_index(index)
    rng = generator(config.seed, split, int(index))
    unseen = split == "compositional"
    for _ in range(MOST_DRAWS):
        traffic = _traffic(rng, pick(rng, config.unseen_boxes if unseen else config.boxes))
        if not unseen and split_of(traffic.canonical()) != split:
            continue
        rate = None if _crowded(traffic) else chosen_rate(traffic)
        if rate is not None:
            return Drive(traffic, rate, waypoints(traffic, rate))
    raise ValueError(f"no drive found for the split {split}")


def _traffic(rng: np.random.Generator, count: int) -> Traffic:
    def speed() -> float:
        return float(rng.integers(8, 17)) / 2  # 4 to 8 m/s

    own = Box(approach=0, turn=pick(rng, TURNS), place=-float(rng.integers(2, 16)) / 2, speed=speed())
    others = tuple(
        Box(
            approach=int(rng.integers(4)),
            turn=pick(rng, TURNS),
            place=float(rng.integers(-36, 13)) / 2,
            speed=speed() if rng.random() < 0.8 else 0.0,
        )
        for _ in range(count)
    )
    centre = (16.0 + int(rng.integers(-2, 3)), 14.0 + int(rng.integers(-2, 3)))
    return Traffic(centre=centre, own=own, others=others)


def _crowded(traffic: Traffic) -> bool:
    """Whether boxes touch one another in the past second: nobody begins in a collision."""
    for time in (-STEP, 0.0):
        poses = [own_pose(traffic, 0.0, time), *other_poses(traffic, time)]
        if any(touch(a, b, 0.5) for n, a in enumerate(poses) for b in poses[n + 1 :]):
            return True
    return False


class RoadTask:
    """A future picture of a junction from above, then a plan. Implements `unified.tasks.sample.Task`."""

    name = "road"

    def __init__(self, config: RoadConfig | None = None) -> None:
        self.config = config or RoadConfig()

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample with this number, the same every time. Raises ValueError for an unknown split or a bad
        index."""
        config = self.config
        found = drive(config, index, split)
        before, now, later = (
            draw(found.traffic, found.rate, time, config.size) for time in (-STEP, 0.0, config.ahead)
        )
        asked: Content = [_image(before), _image(now), {"type": "text", "text": question(found.traffic)}]
        answered: Content = [_image(later), {"type": "text", "text": plan_text(found.plan)}]
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        meta = {
            "category": found.traffic.own.turn,
            "traffic": found.traffic.to_json(),
            "rate": found.rate,
            "plan": found.plan.round(1).tolist(),
        }
        return Sample(task=self.name, messages=messages, meta=meta)

    def score(self, sample: Sample, answer: Content) -> dict[str, float]:
        """`valid`: there are six waypoints; the scores of `score_plan`, for an answer without a plan those of
        standing still; `psnr` of the last picture, 0 without one. Raises ValueError for a malformed
        answer."""
        if not isinstance(answer, list) or not all(
            isinstance(item, dict) and item.get("type") in item for item in answer
        ):
            raise ValueError("an answer is a list of text and image items")
        said = " ".join(item["text"] for item in answer if item["type"] == "text")
        plan = read_plan(said)
        traffic = Traffic.from_json(sample.meta["traffic"])
        used = np.zeros((WAYPOINTS, 2)) if plan is None else plan
        shown = [item["image"] for item in answer if item["type"] == "image"][-1:]
        truth = sample.messages[-1]["content"][0]["image"]
        for image in shown:
            check_image(image, "answer")
            if image.shape != truth.shape:
                raise ValueError(f"the picture has shape {list(truth.shape)}, got {list(image.shape)}")
        return {
            "valid": float(plan is not None),
            **score_plan(traffic, used, np.array(sample.meta["plan"])),
            "psnr": psnr(shown[0], truth) if shown else 0.0,
        }


def question(traffic: Traffic) -> str:
    where = "go straight on" if traffic.own.turn == "straight" else f"turn {traffic.own.turn}"
    return f"You drive the white box. At the junction {where}. Plan three seconds."


def plan_text(plan: np.ndarray) -> str:
    """Waypoints [6, 2] as words: "x,y x,y ...", in metres with one decimal."""
    return " ".join(f"{x + 0.0:.1f},{y + 0.0:.1f}" for x, y in plan.round(1))


def read_plan(text: str) -> np.ndarray | None:
    """The inverse; None unless there are just six waypoints."""
    found = PAIR.findall(text)
    return np.array(found, float) if len(found) == WAYPOINTS else None


def score_plan(traffic: Traffic, plan: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Of waypoints [6, 2] in metres. `l2_1s` to `l2_3s`: the distance at that instant, and `l2` their mean
    (UniAD's way); `l2_until`: the mean over 1, 2 and 3 s of the mean distance until then (ST-P3's way);
    `collision`: the share of waypoints at which the own box touches another."""
    distance = np.hypot(*(np.asarray(plan, float) - truth).T)  # [6]
    at = {f"l2_{s}s": float(distance[int(s / STEP) - 1]) for s in HORIZONS}
    until = [float(distance[: int(s / STEP)].mean()) for s in HORIZONS]
    poses = planned_poses(traffic, np.asarray(plan, float))
    hits = [collides(traffic, one, STEP * (n + 1)) for n, one in enumerate(poses)]
    return {
        **at,
        "l2": float(np.mean(list(at.values()))),
        "l2_until": float(np.mean(until)),
        "collision": float(np.mean(hits)),
    }


def _image(frame: np.ndarray) -> dict[str, Any]:
    return {"type": "image", "image": frame}
