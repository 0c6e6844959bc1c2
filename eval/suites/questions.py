"""Questions about scenes: by kind, blind (the picture taken away), about absent objects, and with held-out
pairs of shape and colour. They are answered as `Assistant.ask` does, after a list of what stands where;
beside that stand the answers at a glance, without the list.

The questions about absent objects follow POPE (arXiv 2305.10355): half have the answer yes, and of the other
half some name an object drawn at random and some a hard negative, which differs from what is there in one
attribute. POPE's "popular" negatives have no counterpart: all objects are equally frequent here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from unified.eval.measurement import DATA_SEED, Example, Goal, Result, Run, Table, grouped
from unified.eval.metrics.rates import rate
from unified.tasks.sample import Sample, generator
from unified.tasks.scenes.asking import ask
from unified.tasks.scenes.generate import allowed, random_scene
from unified.tasks.scenes.render import render
from unified.tasks.scenes.scene import COLOURS, SHAPES, Filter
from unified.tasks.scenes.scene_tasks import SceneConfig, SceneQuestion
from unified.tasks.scenes.turns import text_of
from unified.tasks.scenes.words import a, normal

from unified.apps.answering import Content, GenerationSettings
from unified.apps.assistant import ASKING
from unified.apps.looking import LOOKING, after_look, concluded, for_list

SHORT = GenerationSettings(allow_images=False, max_tokens=24)
POPE = ("present", "random", "adversarial")


def questions(run: Run) -> Result:
    """All measurements, `count` questions each (a blind one and one at a glance for each seeing one)."""
    task = SceneQuestion(SceneConfig(seed=DATA_SEED, size=run.assistant.side))
    samples = [task.sample(index, run.split) for index in range(run.count)]
    replies = looked(run, samples)
    seeing = correct(task, samples, replies)
    glance = correct(task, samples, run.answers(samples, SHORT))
    blind = correct(task, samples, run.answers(samples, SHORT, [_blinded(sample) for sample in samples]))
    held_out = [task.sample(index, "compositional") for index in range(run.count)]
    compositional = correct(task, held_out, looked(run, held_out))
    pope = absent_objects(run)
    kinds = [sample.meta["category"] for sample in samples]
    by_kind = {kind: rate(values) for kind, values in grouped(zip(kinds, seeing, strict=True)).items()}
    glance_by_kind = {kind: rate(values) for kind, values in grouped(zip(kinds, glance, strict=True)).items()}
    blind_by_kind = {kind: rate(values) for kind, values in grouped(zip(kinds, blind, strict=True)).items()}
    overall = {"all": rate(seeing), "at_a_glance": rate(glance), "blind": rate(blind)}
    overall["compositional"] = rate(compositional)
    rows: list[list[Any]] = [
        [kind, found, glance_by_kind[kind], blind_by_kind[kind]] for kind, found in by_kind.items()
    ]
    rows += [
        ["all", overall["all"], overall["at_a_glance"], overall["blind"]],
        ["compositional split", overall["compositional"], None, None],
    ]
    return Result(
        numbers={**overall, "by_kind": by_kind, "blind_by_kind": blind_by_kind, "absent_objects": pope},
        tables=[
            Table("Questions answered", ["kind", "correct", "at a glance", "picture removed"], rows),
            _pope_table(pope),
        ],
        goals=[
            Goal("questions, all kinds", overall["all"].value, 0.95),
            Goal("absent-object yes/no", pope["accuracy"].value, 0.97),
            Goal("questions, compositional split", overall["compositional"].value, 0.88),
        ],
        examples=[_example(*pair) for pair in zip(samples[:8], replies, strict=False)],
    )


def absent_objects(run: Run) -> dict[str, Any]:
    """Accuracy, the share of "yes", precision, recall and F1 of "yes", and accuracy by kind of question."""
    asked = [pope_question(index, run.split, run.assistant.side) for index in range(run.count)]
    replies = looked(run, [], [messages for messages, _, _ in asked])
    said = [normal(text_of(reply)) for reply in replies]
    truth = [answer for _, answer, _ in asked]
    right = [float(found == true) for found, true in zip(said, truth, strict=True)]
    hits = sum(found == true == "yes" for found, true in zip(said, truth, strict=True))
    precision = hits / max(1, said.count("yes"))
    recall = hits / max(1, truth.count("yes"))
    kinds = [kind for _, _, kind in asked]
    return {
        "accuracy": rate(right),
        "yes_rate": rate([float(found == "yes") for found in said]),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
        "by_kind": {kind: rate(found) for kind, found in grouped(zip(kinds, right, strict=True)).items()},
    }


def pope_question(index: int, split: str, size: int) -> tuple[list[dict[str, Any]], str, str]:
    """(conversation, true answer, kind): kinds alternate so that yes and no are even."""
    rng = generator(DATA_SEED + 1000, split, index)
    kind = ("present", "random", "present", "adversarial")[index % 4]
    while True:
        scene = random_scene(rng, split)
        if kind == "random":
            text = _random_absent(rng, scene, split)
        else:
            found = ask(rng, scene, split, "existence", "yes" if kind == "present" else "no")
            text = found.text if found else None
        if text is not None:
            content = [{"type": "image", "image": render(scene, size)}, {"type": "text", "text": text}]
            return [{"role": "user", "content": content}], "yes" if kind == "present" else "no", kind


def _random_absent(rng: np.random.Generator, scene: Any, split: str) -> str | None:
    shape, colour = SHAPES[int(rng.integers(len(SHAPES)))], tuple(COLOURS)[int(rng.integers(len(COLOURS)))]
    wanted = Filter(shape=shape, colour=colour)
    if wanted.select(scene.objects) or not allowed(split, shape, colour):
        return None
    return f"Is there {a(rng, wanted)}?"


def looked(run: Run, samples: list[Sample], prompts: list[Any] | None = None) -> list[Content]:
    """The answers to samples (or to other prompts) after a list of what stands where."""
    asked = [sample.messages[:-1] for sample in samples] if prompts is None else prompts
    if not run.switched.look:
        return run.answers(samples, SHORT, asked)
    listed = run.answers([], LOOKING, [for_list(messages) for messages in asked])
    thought = [after_look(messages, said) for messages, said in zip(asked, listed, strict=True)]
    return [concluded(reply) for reply in run.answers(samples, ASKING, thought)]


def correct(task: SceneQuestion, samples: list[Sample], replies: list[Content]) -> list[float]:
    return [task.score(sample, reply)["correct"] for sample, reply in zip(samples, replies, strict=True)]


def _blinded(sample: Sample) -> list[dict[str, Any]]:
    """The question without its picture."""
    return [
        {**message, "content": [item for item in message["content"] if item["type"] != "image"]}
        for message in sample.messages[:-1]
    ]


def _pope_table(pope: dict[str, Any]) -> Table:
    rows: list[list[Any]] = [[kind, found] for kind, found in pope["by_kind"].items()]
    rows += [["all", pope["accuracy"]], ['says "yes"', pope["yes_rate"]]]
    return Table(
        'Yes/no about absent objects (POPE; "present" has the answer yes)', ["kind", "correct"], rows
    )


def _example(sample: Sample, reply: Content) -> Example:
    image, question = (item[item["type"]] for item in sample.messages[0]["content"])
    truth = sample.messages[-1]["content"][0]["text"]
    return Example(f"{question}  said: {text_of(reply)[:40]!r}  true: {truth!r}", [image])
