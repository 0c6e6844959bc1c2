"""The task `voxel_walk`: from where I stand to the place of that picture, in words, after imagining the way.

The form of GoViG (arXiv 2508.09547) in towns of blocks: a first view and the view of the goal; the answer is
the views between and an instruction, which a scripted follower carries out. Routes decide the split by hash;
the compositional split has more turns than any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from unified.tasks.packing import check_image
from unified.tasks.sample import Sample, check_index, check_split, generator, split_of
from unified.tasks.scenes.choice import pick
from unified.tasks.walks.town import SIDE, Route, Stand, Town, read_orders, stand_of
from unified.tasks.worlds.scoring import psnr

QUESTION = "The first picture is what I see, the second where I want to be. How do I get there?"
MOST_TOWNS = 1000
MOST_DRAWS = 10_000
Content = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class WalkConfig:
    """`size`: side of a view in pixels; `towns`: how many there are; `turns` of a route, `unseen_turns` those
    of the compositional split."""

    seed: int = 0
    size: int = 64
    towns: int = 8
    turns: tuple[int, ...] = (1, 2)
    unseen_turns: tuple[int, ...] = (3,)

    def __post_init__(self) -> None:
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {self.seed!r}")
        if type(self.size) is not int or not 16 <= self.size <= 512:
            raise ValueError(f"size must be 16 to 512 pixels, got {self.size!r}")
        if type(self.towns) is not int or not 1 <= self.towns <= MOST_TOWNS:
            raise ValueError(f"towns must be 1 to {MOST_TOWNS}, got {self.towns!r}")
        for name, numbers in (("turns", self.turns), ("unseen_turns", self.unseen_turns)):
            if not numbers or any(type(n) is not int or not 0 <= n <= 4 for n in numbers):
                raise ValueError(f"{name} must be whole numbers of 0 to 4, got {numbers!r}")
        if both := set(self.turns) & set(self.unseen_turns):
            raise ValueError(f"turns and unseen_turns share {sorted(both)}: unseen must not be trained on")


@lru_cache(maxsize=MOST_TOWNS)
def town_of(number: int) -> Town:
    return Town(number)


@lru_cache(maxsize=4096)
def routes_of(number: int, start: Stand, turns: int) -> tuple[Route, ...]:
    return tuple(town_of(number).routes(start, turns))


def walk(config: WalkConfig, index: int, split: str) -> tuple[Town, Route]:
    """The walk with this number, the same every time."""
    check_split(split)
    check_index(index)
    rng = generator(config.seed, split, int(index))
    unseen = split == "compositional"
    for _ in range(MOST_DRAWS):
        turns = pick(rng, config.unseen_turns if unseen else config.turns)
        number = config.seed * MOST_TOWNS + int(rng.integers(config.towns))
        start = Stand((int(rng.integers(SIDE)), int(rng.integers(SIDE))), int(rng.integers(4)))
        routes = routes_of(number, start, turns)
        if not routes:
            continue
        route = pick(rng, routes)
        if unseen or split_of(f"{number} {start} {route.text}") == split:
            return town_of(number), route
    raise ValueError(f"no walk found for the split {split}")


class VoxelWalk:
    """Instructions from a first view and that of the goal. Implements `unified.tasks.sample.Task`."""

    name = "voxel_walk"

    def __init__(self, config: WalkConfig | None = None) -> None:
        self.config = config or WalkConfig()

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample with this number, the same every time. Raises ValueError for an unknown split or a bad
        index."""
        town, route = walk(self.config, index, split)
        first, *between, goal = (town.view(stand, self.config.size) for stand in route.stands)
        asked: Content = [_image(first), _image(goal), {"type": "text", "text": QUESTION}]
        answered: Content = [*map(_image, between), {"type": "text", "text": route.text}]
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        meta = {
            "category": f"{len(route.orders) - 1} turns",
            "town": town.number,
            "stands": [[*stand.cell, stand.heading] for stand in route.stands],
            "text": route.text,
        }
        return Sample(task=self.name, messages=messages, meta=meta)

    def score(self, sample: Sample, answer: Content) -> dict[str, float]:
        """The scores of `score_words`; `psnr` of the views, 0 unless there are as many as on the way. Raises
        ValueError for a malformed answer."""
        if not isinstance(answer, list) or not all(
            isinstance(item, dict) and item.get("type") in item for item in answer
        ):
            raise ValueError("an answer is a list of text and image items")
        said = " ".join(item["text"] for item in answer if item["type"] == "text")
        shown = [item["image"] for item in answer if item["type"] == "image"]
        truth = [item["image"] for item in sample.messages[-1]["content"] if item["type"] == "image"]
        for image in shown:
            check_image(image, "answer")
        fits = [a.shape for a in shown] == [b.shape for b in truth]
        near = [psnr(a, b) for a, b in zip(shown, truth, strict=False)] if fits else []
        stands = [stand_of(one) for one in sample.meta["stands"]]
        scores = score_words(town_of(int(sample.meta["town"])), stands, said)
        return {**scores, "psnr": float(np.mean(near)) if near else 0.0}


def score_words(town: Town, stands: list[Stand], text: str) -> dict[str, float]:
    """What a follower of a text does. `success`: he ends at the goal, having been told to stop there; `spl`:
    success by the length of the true way beside his, where that is longer; `exact`: he goes the true way;
    `valid`: the text ends with an order to stop."""
    orders = read_orders(text)
    valid = bool(orders) and orders[-1][0] == "stop"
    went = town.follow(stands[0], text) if valid else (stands[0],)
    success = valid and went[-1].cell == stands[-1].cell and town.colour(went[-1].cell) == orders[-1][1]
    return {
        "success": float(success),
        "spl": float(success) * min(1.0, (len(stands) - 1) / max(len(went) - 1, 1)),
        "exact": float(list(went) == list(stands)),
        "valid": float(valid),
    }


def _image(frame: np.ndarray) -> dict[str, Any]:
    return {"type": "image", "image": frame}
