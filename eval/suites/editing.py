"""Editing, read back by the scene parser: the edit is done, the rest is as it was, both. By kind of edit.

Images are edited as `Assistant.edit` does: the best of n with the model as its own judge
(`unified.apps.best_of_n`). Two controls: the image left as it was, and the true result after a pass through
the tokenizer (the most that can be reached with it).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from unified.eval.measurement import DATA_SEED, Example, Goal, Result, Run, Table, grouped
from unified.eval.metrics.rates import rate
from unified.tasks.sample import Sample
from unified.tasks.scenes.scene_tasks import SceneConfig, SceneEdit
from unified.tasks.scenes.turns import image_of, text_of

from unified.apps.assistant import EDITING

SCORES = ("done", "rest_unchanged", "both")
NAMES = {"done": "edit done", "rest_unchanged": "rest unchanged", "both": "both"}


def editing(run: Run) -> Result:
    """`count` edits of all kinds in pictures of up to three objects, and half as many in fuller ones."""
    task = SceneEdit(SceneConfig(seed=DATA_SEED, size=run.assistant.side, most=3))
    samples = [task.sample(index, run.split) for index in range(run.count)]
    replies = run.best_of_n_answers(samples, EDITING)
    scores = [task.score(sample, reply) for sample, reply in zip(samples, replies, strict=True)]
    befores = [sample.messages[0]["content"][0]["image"] for sample in samples]
    untouched = [task.score(sample, _shown(image)) for sample, image in zip(samples, befores, strict=True)]
    ceiling = [task.score(sample, _shown(_passed(run, _truth(sample)))) for sample in samples]
    fuller = fuller_pictures(run)
    kinds = [sample.meta["category"] for sample in samples]
    by_kind = {kind: _rates(found) for kind, found in grouped(zip(kinds, scores, strict=True)).items()}
    rows: list[list[Any]] = [[kind, *found.values()] for kind, found in by_kind.items()]
    rows.append(["all", *_rates(scores).values()])
    rows.append(["4 to 6 objects", *fuller.values()])
    rows.append(["control: picture left as it was", *_rates(untouched).values()])
    rows.append(["control: true result through the tokenizer", *_rates(ceiling).values()])
    return Result(
        numbers={
            "all": _rates(scores),
            "by_kind": by_kind,
            "four_to_six_objects": fuller,
            "left_as_it_was": _rates(untouched),
            "tokenizer_ceiling": _rates(ceiling),
        },
        tables=[Table("Edits (1 to 3 objects unless said)", ["kind", *NAMES.values()], rows)],
        goals=[
            Goal("editing, done and the rest unchanged, 1 to 3 objects", _rates(scores)["both"].value, 0.85)
        ],
        examples=[
            Example(
                f"{text_of(sample.messages[0]['content'])}  (before, drawn, true)",
                [before, image, _truth(sample)],
            )
            for sample, before, reply in zip(samples[:6], befores, replies, strict=False)
            if (image := image_of(reply)) is not None
        ],
    )


def fuller_pictures(run: Run) -> dict[str, Any]:
    """The rates in pictures of four to six objects."""
    task = SceneEdit(SceneConfig(seed=DATA_SEED, size=run.assistant.side, least=4))
    samples = [task.sample(index, run.split) for index in range(max(1, run.count // 2))]
    replies = run.best_of_n_answers(samples, EDITING)
    return _rates([task.score(sample, reply) for sample, reply in zip(samples, replies, strict=True)])


def _rates(scores: list[dict[str, float]]) -> dict[str, Any]:
    return {name: rate(score[name] for score in scores) for name in SCORES}


def _truth(sample: Sample) -> np.ndarray:
    return sample.messages[-1]["content"][0]["image"]


def _shown(image: np.ndarray) -> list[dict[str, Any]]:
    return [{"type": "image", "image": image}]


def _passed(run: Run, image: np.ndarray) -> np.ndarray:
    """Encoded and decoded again."""
    processor = run.assistant.processor
    return processor.picture(processor.image_item(image))
