"""Mazes solved by an arm's model with its own sketches, and with others in their place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from unified.tasks.causality import other_of
from unified.tasks.mazes.fill_task import FillConfig, MazeFillTask
from unified.tasks.sample import Sample
from unified.train.experiments.sketchpad.codec import PATCH, codes_of
from unified.train.experiments.sketchpad.traces import question, sketches

from unified.apps.answering import GREEDY, GenerationSettings
from unified.apps.pages import Answer, answers_by_pages
from unified.apps.sketching import SketchLimits
from unified.model import UnifiedModel
from unified.stream.processor import Processor

SHOWN = ("own", "none", "blank", "noise", "another's", "true")
"""Which sketches a model is given at inference: those it draws; none, it may open no image; white ones; codes
at random; those of another maze of the same size; those of the maze's own trace."""

NUMBERED = ("success", "progress", "goal_reached", "visual_success")


@dataclass(frozen=True, kw_only=True)
class Mazes:
    """`count` mazes of each of the square `sizes` are solved with the model's own sketches, the first
    `others` of them with other sketches. Sizes up to `trained` are of the test split, larger ones were never
    trained on. At most `sketches` and `seconds` an answer, and `words` ids of text a page; `batch` mazes at
    once."""

    sizes: tuple[int, ...] = (3, 4, 5, 6, 7, 8)
    trained: int = 5
    count: int = 20
    others: int = 8
    sketches: int = 120
    seconds: float | None = None
    batch: int = 25
    words: int = 1024


def samples_of(size: int, mazes: Mazes, shown: str = "own") -> tuple[MazeFillTask, list[Sample]]:
    """The mazes of a size, the same for all arms."""
    count = mazes.count if shown == "own" else min(mazes.others, mazes.count)
    seen = size <= mazes.trained
    key = "sizes" if seen else "unseen_sizes"
    sizes: dict[str, Any] = {key: ((size, size),)}
    sizes |= {"unseen_sizes": ((8, 8),)} if seen else {"sizes": ((3, 3),)}
    task = MazeFillTask(FillConfig(**sizes))
    split = "test" if seen else "compositional"
    return task, [task.sample(number, split) for number in range(count)]


def solved(
    model: UnifiedModel,
    processor: Processor,
    form: str,
    shown: str,
    size: int,
    mazes: Mazes,
    *,
    page: int,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores of all mazes of a size: per figure the sum over mazes, the number of mazes, of sketches and of
    those that keep the walls, of answers that were cut, and the seconds."""
    began = time.monotonic()
    task, samples = samples_of(size, mazes, shown)
    pictures = [sample.messages[0]["content"][0]["image"] for sample in samples]
    given = substitutes(form, shown, samples, processor.vocabulary.visual, seed)
    limits = SketchLimits(images=mazes.sketches, seconds=mazes.seconds)
    settings = GenerationSettings(
        sketches=limits, max_tokens=mazes.words, image_sampler=GREEDY, allow_images=shown != "none"
    )
    answers = []
    for start in range(0, len(samples), mazes.batch):
        part = slice(start, start + mazes.batch)
        replaced = None if given is None else _from(given, start)
        answers += answers_by_pages(
            model,
            processor,
            pictures[part],
            lambda picture: question(form, picture),
            settings,
            page=page,
            given=replaced,
        )
    return scored(task, samples, answers, began)


def scored(
    task: MazeFillTask, samples: Sequence[Sample], answers: Sequence[Answer], began: float
) -> dict[str, Any]:
    """The scores of answers to mazes, added up (`solved`). `began`: when they were asked for, by
    `time.monotonic`."""
    scores = [task.score(sample, one.content) for sample, one in zip(samples, answers, strict=True)]
    return {
        **{name: sum(score[name] for score in scores) for name in NUMBERED},
        "mazes": len(samples),
        "images": sum(score["images"] for score in scores),
        "consistent_images": sum(score["consistent_images"] for score in scores),
        "cut": sum(bool(one.cut) for one in answers),
        "seconds": round(time.monotonic() - began, 1),
    }


def substitutes(
    form: str, shown: str, samples: Sequence[Sample], codes: int, seed: int
) -> Callable[[int, int], Sequence[int] | None] | None:
    """The codes in the place of sketch k of maze n; None where sketches are the model's own or none."""
    if shown not in SHOWN:
        raise ValueError(f"unknown sketches {shown!r}: choose one of {', '.join(SHOWN)}")
    if shown in ("own", "none"):
        return None
    side = samples[0].meta["image_size"]
    if shown == "blank":
        white = codes_of(np.full((side, side, 3), 255, np.uint8)).tolist()
        return lambda maze, sketch: white
    if shown == "noise":
        area = (side // PATCH) ** 2
        return lambda maze, sketch: (
            np.random.default_rng([seed, maze, sketch]).integers(codes, size=area).tolist()
        )
    shown_of = samples if shown == "true" else [other_of(samples, n) for n in range(len(samples))]
    traces = [sketches(form, sample) for sample in shown_of]
    return lambda maze, sketch: traces[maze][min(sketch, len(traces[maze]) - 1)].tolist()


def _from(
    given: Callable[[int, int], Sequence[int] | None], start: int
) -> Callable[[int, int], Sequence[int] | None]:
    return lambda maze, sketch: given(start + maze, sketch)
