"""Mazes: the four rates of Latent Sketchpad (arXiv 2510.24514) by size, with sketches and in words alone.

`success`, `progress` compare with the one right route; `goal reached` walks the actions through the maze;
`visual success` judges the last sketch (as published, and with the published defect mended); `layout` is the
share of sketches that keep the walls. 6x6 mazes are larger than any in training.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unified.eval.measurement import DATA_SEED, Example, Goal, Result, Run, Table
from unified.eval.metrics.rates import Estimate, rate
from unified.tasks.mazes import MazeConfig, MazeTask, rates_by_size
from unified.tasks.mazes.trace import images_of
from unified.tasks.sample import Sample

from unified.apps.solving import SOLVING

GROUPS: dict[str, tuple[tuple[int, int], ...]] = {
    "3x3 to 4x4": ((3, 3), (3, 4), (4, 3), (4, 4)),
    "3x5 to 5x4": ((3, 5), (5, 3), (4, 5), (5, 4)),
    "5x5": ((5, 5),),
}
UNSEEN = "6x6 (unseen size)"
MODES = {"with sketches": SOLVING, "words alone": replace(SOLVING, image_after="")}
COLUMNS = ("success", "progress", "goal_reached", "visual_success", "visual_success_corrected")
GOALS = {"3x3 to 4x4": 0.93, "5x5": 0.85}


def mazes(run: Run) -> Result:
    """A quarter of `count` mazes in each group, each solved in both modes."""
    share = max(1, run.count // (len(GROUPS) + 1))
    numbers: dict[str, Any] = {}
    rows, examples = [], []
    for group, (task, split) in _tasks(run).items():
        samples = [task.sample(index, split) for index in range(share)]
        for mode, settings in MODES.items():
            replies = run.answers(samples, settings)
            scores = [task.score(sample, reply) for sample, reply in zip(samples, replies, strict=True)]
            found = _rates(scores)
            sizes = [sample.meta["size"] for sample in samples]
            by_size = {size: vars(rates) for size, rates in rates_by_size(scores, sizes).items()}
            numbers.setdefault(mode, {})[group] = {**found, "by_size": by_size}
            rows.append([group, mode, *found.values()])
            if mode == "with sketches":
                examples += [_example(*pair) for pair in zip(samples[:2], replies, strict=False)]
    header = ["size", "mode", *(name.replace("_", " ") for name in COLUMNS), "layout kept"]
    sketched = numbers["with sketches"]
    return Result(
        numbers=numbers,
        tables=[Table("Mazes solved", header, rows)],
        goals=[
            Goal(f"maze success with sketches, {group}", sketched[group]["success"].value, bound)
            for group, bound in GOALS.items()
        ],
        examples=examples,
    )


def _tasks(run: Run) -> dict[str, tuple[MazeTask, str]]:
    side = run.assistant.side
    found = {
        name: (MazeTask(MazeConfig(seed=DATA_SEED, image_size=side, sizes=sizes)), run.split)
        for name, sizes in GROUPS.items()
    }
    unseen = MazeConfig(seed=DATA_SEED, image_size=side, unseen_sizes=((6, 6),))
    return {**found, UNSEEN: (MazeTask(unseen), "compositional")}


def _rates(scores: list[dict[str, float]]) -> dict[str, Estimate | None]:
    found: dict[str, Estimate | None] = {name: rate(score[name] for score in scores) for name in COLUMNS}
    images = round(sum(score["images"] for score in scores))
    kept = sum(score["consistent_images"] for score in scores)
    found["layout"] = rate([1.0] * round(kept) + [0.0] * (images - round(kept))) if images else None
    return found


def _example(sample: Sample, reply: list[dict[str, Any]]) -> Example:
    maze = sample.messages[0]["content"][0]["image"]
    rows, columns = sample.meta["size"]
    return Example(f"{rows}x{columns} maze and the sketches drawn", [maze, *images_of(reply)[:6]])
