"""The task `frozen_lake`: planning on FrozenLake maps, with the interface, traces and scores of the maze
task.

Random maps of 4x4 to 6x6 fill train, validation and test by the hash of the map; `compositional` holds the
unseen size 8x8. The two published maps are kept out of training: 4x4 counts as test, 8x8 has an unseen
size. Every lake is solvable in several ways, so success means that the environment is solved, whatever the
route.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from unified.tasks.mazes.lake import LARGEST, SMALLEST, Lake, cross, named_lake, plan, progress, random_lake
from unified.tasks.mazes.metrics import read_segments
from unified.tasks.mazes.render import draw_lake, make_canvas
from unified.tasks.mazes.scoring import check_answer, score_images
from unified.tasks.mazes.trace import (
    LAKE_PROMPT,
    assistant_content,
    cut_lake,
    lake_parts,
    text_of,
    user_content,
)
from unified.tasks.sample import Sample, check_split, generator, split_of

MOST_DRAWS = 10_000


@dataclass(frozen=True, kw_only=True)
class LakeConfig:
    """`sizes`: sides of the maps of train, validation and test; `unseen_sizes`: those of the compositional
    split; `frozen`: the probability that a tile is ice, as gymnasium's generator has it."""

    seed: int = 0
    image_size: int = 64
    sizes: tuple[int, ...] = (4, 5, 6)
    unseen_sizes: tuple[int, ...] = (8,)
    frozen: float = 0.8

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if not 0.5 <= self.frozen < 1:
            raise ValueError(f"frozen must be from 0.5 to below 1, got {self.frozen}")
        if not self.sizes or not self.unseen_sizes or set(self.sizes) & set(self.unseen_sizes):
            raise ValueError("sizes and unseen_sizes each need at least one side and must not share any")
        for side in self.sizes + self.unseen_sizes:
            if not SMALLEST <= side <= LARGEST:
                raise ValueError(f"a lake has {SMALLEST} to {LARGEST} tiles a side, got {side}")
            make_canvas(self.image_size, side, side)


class FrozenLakeTask:
    """Lakes with interleaved traces. Implements `unified.tasks.sample.Task`."""

    name = "frozen_lake"

    def __init__(self, config: LakeConfig | None = None) -> None:
        self.config = config or LakeConfig()

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample of this index; equal for equal seeds wherever it is made."""
        rng = generator(self.config.seed, split, index)
        return self.sample_of(draw_lake_map(rng, self.config, split), rng)

    def sample_of(self, lake: Lake, rng: np.random.Generator) -> Sample:
        """The sample of a given lake; `rng` only decides where the trace is cut into parts."""
        rows, columns = lake.size
        actions = plan(lake)
        lengths, size = cut_lake(rng, actions), self.config.image_size
        parts = lake_parts(lake, actions, lengths, size)
        prompt = LAKE_PROMPT.format(rows=rows, columns=columns)
        messages = [
            {"role": "user", "content": user_content(prompt, draw_lake(lake, size))},
            {"role": "assistant", "content": assistant_content(parts)},
        ]
        meta = {
            "lake": list(lake.tiles),
            "size": [rows, columns],
            "actions": actions,
            "parts": lengths,
            "image_size": size,
        }
        return Sample(task=self.name, messages=messages, meta=meta)

    def score(self, sample: Sample, answer: list[dict[str, Any]]) -> dict[str, float]:
        """Executes the actions in the environment: `success` = `goal_reached`, `progress` as
        `lake.progress` says. The last image may show the label's route or the route taken, if that arrives.
        Raises ValueError for a malformed answer or sample."""
        check_answer(answer)
        lake, size = lake_of(sample), sample.meta["image_size"]
        crossing = cross(lake, [action for part in read_segments(text_of(answer)) for action in part])
        routes = [cross(lake, sample.meta["actions"]).cells] + [crossing.cells] * crossing.reached
        solved = [draw_lake(lake, size, cells) for cells in routes]
        return {
            "success": float(crossing.reached),
            "progress": progress(lake, crossing),
            "goal_reached": float(crossing.reached),
            **score_images(draw_lake(lake, size), solved, answer),
        }


def lake_split(lake: Lake) -> str:
    """The split of a map of a seen size."""
    return "test" if lake == named_lake("4x4") else split_of(lake.layout)


def draw_lake_map(rng: np.random.Generator, config: LakeConfig, split: str) -> Lake:
    """Draws a size, then maps of that size until one belongs to the split."""
    check_split(split)
    unseen = split == "compositional"
    sizes = config.unseen_sizes if unseen else config.sizes
    side = sizes[int(rng.integers(len(sizes)))]
    for _ in range(MOST_DRAWS):
        lake = random_lake(rng, side, config.frozen)
        if unseen or lake_split(lake) == split:
            return lake
    raise ValueError(f"no {side}x{side} lake found for the split {split}")


def lake_of(sample: Sample) -> Lake:
    """The lake of a sample, from its meta alone."""
    missing = {"lake", "actions", "image_size"} - set(sample.meta)
    if missing:
        raise ValueError(f"the sample of task {sample.task!r} lacks {', '.join(sorted(missing))} in its meta")
    return Lake(tiles=tuple(sample.meta["lake"]))
