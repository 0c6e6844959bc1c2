"""Drawing, read back by the scene parser: every attribute, by number of objects, and GenEval's categories.

"Complete" prompts state every attribute and the place of each object, and the ground. As in GenEval
(arXiv 2310.11513) what is not asked for must not be drawn, and the overall score is the unweighted mean of
the six categories; one image per prompt instead of four. Images are drawn as `Assistant.draw` does: those of
several objects are the best of n with the model as its own judge (`unified.apps.best_of_n`).
"""

from __future__ import annotations

from typing import Any

from unified.eval.measurement import DATA_SEED, Example, Goal, Result, Run, Table, grouped
from unified.eval.metrics.rates import rate
from unified.tasks.sample import Sample
from unified.tasks.scenes.drawing import CATEGORIES
from unified.tasks.scenes.scene_tasks import SceneConfig, SceneDraw
from unified.tasks.scenes.turns import image_of, text_of

from unified.apps.assistant import DRAWING

ATTRIBUTES = ("count", "shape", "colour", "size", "fill", "position", "background", "all")
GENEVAL = tuple(name for name in CATEGORIES if name != "complete")
GOALS = {1: 0.95, 2: 0.88, 3: 0.78}
MOST_DRAWS = 100  # samples looked through for one with a complete prompt


def drawing(run: Run) -> Result:
    """`count` prompts of all categories, and a third as many complete ones for each number of objects from 1
    to 3."""
    task = SceneDraw(SceneConfig(seed=DATA_SEED, size=run.assistant.side))
    samples = [task.sample(index, run.split) for index in range(run.count)]
    images, scores = _drawn(run, task, samples)
    kinds = [sample.meta["category"] for sample in samples]
    numbers = [str(_objects(sample)) for sample in samples]
    by_category = {
        kind: rate(score["all"] for score in found)
        for kind, found in grouped(zip(kinds, scores, strict=True)).items()
    }
    by_number = {
        number: rate(score["all"] for score in found)
        for number, found in grouped(zip(numbers, scores, strict=True)).items()
    }
    geneval = [by_category[name].value for name in GENEVAL if name in by_category]
    complete = {number: complete_prompts(run, number) for number in GOALS}
    rows = [
        [name, _attribute(scores, name), *(_attribute(complete[n], name) for n in GOALS)]
        for name in ATTRIBUTES
    ]
    numbers_json: dict[str, Any] = {
        "all_prompts": {name: _attribute(scores, name) for name in ATTRIBUTES},
        "by_category": by_category,
        "geneval_overall": sum(geneval) / len(geneval) if geneval else None,
        "by_number_of_objects": by_number,
        "complete_by_number": {
            number: {name: _attribute(found, name) for name in ATTRIBUTES}
            for number, found in complete.items()
        },
    }
    categories: list[list[Any]] = [[name, found] for name, found in by_category.items()]
    categories.append(["GenEval overall (mean of six)", numbers_json["geneval_overall"]])
    return Result(
        numbers=numbers_json,
        tables=[
            Table(
                "Drawn as asked, by attribute",
                ["attribute", "all prompts", *(f"complete, {n} object{'s' * (n > 1)}" for n in GOALS)],
                rows,
            ),
            Table("All right, by category", ["category", "all right"], categories),
            Table(
                "All right, by number of objects (all prompts)",
                ["objects", "all right"],
                list(by_number.items()),
            ),
        ],
        goals=[
            Goal(f"drawing, complete prompts, {n} object{'s' * (n > 1)}", _value(complete[n]), bound)
            for n, bound in GOALS.items()
        ],
        examples=[
            Example(
                f"{text_of(sample.messages[0]['content'])}  ({'right' if score['all'] else 'not right'})",
                [image],
            )
            for sample, score, image in list(zip(samples, scores, images, strict=True))[:8]
        ],
    )


def complete_prompts(run: Run, number: int) -> list[dict[str, float]]:
    """Scores of complete prompts about scenes of this many objects."""
    config = SceneConfig(seed=DATA_SEED + number, size=run.assistant.side, least=number, most=number)
    task, index = SceneDraw(config), 0
    samples: list[Sample] = []
    wanted = max(1, run.count // 3)
    while len(samples) < wanted and index < wanted * MOST_DRAWS:
        sample = task.sample(index, run.split)
        index += 1
        if sample.meta["category"] == "complete":
            samples.append(sample)
    return _drawn(run, task, samples)[1]


def _drawn(run: Run, task: SceneDraw, samples: list[Sample]) -> tuple[list[Any], list[dict[str, float]]]:
    replies = run.best_of_n_answers(samples, DRAWING)
    scores = [task.score(sample, reply) for sample, reply in zip(samples, replies, strict=True)]
    return [image_of(reply) for reply in replies], scores


def _objects(sample: Sample) -> int:
    return len(sample.meta["turns"][-1]["prompt"]["demands"])


def _attribute(scores: list[dict[str, float]], name: str) -> Any:
    """Over the prompts that state it."""
    found = [score[name] for score in scores if name in score]
    return rate(found) if found else None


def _value(scores: list[dict[str, float]]) -> float | None:
    return rate(score["all"] for score in scores).value if scores else None
