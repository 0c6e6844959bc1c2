"""Pictures made step by step: a step says what it changes, and the last one is what was asked for."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from unified.tasks.scenes import TASKS, SceneConfig
from unified.tasks.scenes.captions import mentions
from unified.tasks.scenes.drawing import Prompt
from unified.tasks.scenes.editing import Edit, apply
from unified.tasks.scenes.listing import NOTHING, scan, seen
from unified.tasks.scenes.relations import CELL_NAMES, cell, in_cell
from unified.tasks.scenes.render import render
from unified.tasks.scenes.scene import Scene
from unified.tasks.scenes.steps import drawing_steps, editing_steps

STEPWISE = SceneConfig(stepwise=1.0)
PLACES = "|".join(sorted(CELL_NAMES, key=len, reverse=True))


def shown(mention, scene):
    """Objects of a scene that a mention may be about."""
    return [item for item in scene.objects if mention.wanted.matches(item) and in_cell(item, mention.cell)]


def parts(sample):
    """Texts and images of an answer, which take turns."""
    content = sample.messages[-1]["content"]
    assert [item["type"] for item in content] == ["text", "image"] * (len(content) // 2)
    return [item["text"] for item in content[::2]], [item["image"] for item in content[1::2]]


@pytest.mark.parametrize("split", ["train", "compositional"])
def test_a_drawing_grows_by_the_object_that_is_said(split):
    task = TASKS["scene_draw"](STEPWISE)
    for index in range(40):
        sample = task.sample(index, split)
        prompt = Prompt.from_json(sample.meta["turns"][0]["prompt"])
        texts, images = parts(sample)
        assert len(texts) == len(prompt.demands)
        assert set(task.score(sample, sample.messages[-1]["content"]).values()) == {1.0}
        for number, (text, demand) in enumerate(zip(texts, prompt.demands, strict=True), 1):
            assert text.startswith(f"{number} of {len(texts)}: ")
            (mention,) = mentions(text)
            assert set(mention.wanted.stated()) == {"shape", "colour", "size", "fill"}
            assert demand.wanted.stated().items() <= mention.wanted.stated().items()
            assert demand.cell in (None, mention.cell)
        assert "background" in texts[0]
        changed = [(a != b).any() for a, b in pairwise(images)]
        assert all(changed)


def test_the_steps_of_a_drawing_end_in_its_scene():
    task = TASKS["scene_draw"]()
    for index in range(30):
        sample, stepwise = task.sample(index), TASKS["scene_draw"](STEPWISE).sample(index)
        assert sample.messages[0] == stepwise.messages[0]
        whole, last = (s.messages[-1]["content"][-1]["image"] for s in (sample, stepwise))
        assert np.array_equal(whole, last)


def test_an_edit_says_what_goes_and_what_comes():
    task, kinds = TASKS["scene_edit"](SceneConfig(most=4)), set()
    for index in range(80):
        turn = task.sample(index).meta["turns"][0]
        before, edit = Scene.from_json(turn["scene"]), Edit.from_json(turn["edit"])
        steps = editing_steps(edit, before)
        kinds.add(edit.kind)
        searched = f"{scan(before, edit.wanted)} " if edit.kind != "add" else ""
        assert steps[0].text.startswith(f"{seen(before)} {searched}1 of ")
        steps = (replace(steps[0], text=steps[0].text.removeprefix(f"{seen(before)} {searched}")), *steps[1:])
        assert [wanted.select(before.objects) for wanted in edit.wanted] == [[old] for old in edit.old]
        assert len(steps) == {"move": 2, "swap": 2}.get(edit.kind, 1)
        after = apply(edit, before)
        assert set(steps[-1].scene.objects) == set(after.objects)
        assert np.array_equal(render(steps[-1].scene), render(after))
        for step in steps:
            said = re.fullmatch(rf"\d of \d: (.*) in the ({PLACES}) becomes (.*)\.", step.text)
            was, place, now = said.groups()
            assert {was, now} != {NOTHING}
            if now != NOTHING:
                (new,) = (replace(found, cell=place) for found in mentions(now))
                assert len(shown(new, step.scene)) > len(shown(new, before)) or edit.kind == "swap"
                assert shown(new, step.scene)
            if was != NOTHING:
                (old,) = (replace(found, cell=place) for found in mentions(was))
                assert shown(old, before)
                assert was in re.search(rf"[:;] {place} (.*?)[;.]", seen(before))[1]  # word for word
            before = step.scene
    assert kinds == {"recolour", "remove", "add", "move", "resize", "swap"}


def test_objects_are_drawn_in_the_order_of_the_words():
    task = TASKS["scene_draw"](SceneConfig(least=3, most=3, categories=("complete",)))
    for index in range(20):
        turn = TASKS["scene_draw"](task.config).sample(index).meta["turns"][0]
        prompt = Prompt.from_json(turn["prompt"])
        texts, _ = parts(TASKS["scene_draw"](replace(task.config, stepwise=1.0)).sample(index))
        for text, demand in zip(texts, prompt.demands, strict=True):
            (mention,) = mentions(text)
            assert (mention.wanted, mention.cell) == (demand.wanted, demand.cell)


def test_a_share_of_drawings_and_edits_is_stepwise_and_questions_never_are():
    for name in ("scene_draw", "scene_edit"):
        task = TASKS[name](SceneConfig(stepwise=0.5))
        spoken = [len(task.sample(index).messages[-1]["content"]) > 1 for index in range(60)]
        assert 15 < sum(spoken) < 45
    for index in range(10):
        assert (
            TASKS["scene_question"](STEPWISE).sample(index).meta
            == TASKS["scene_question"]().sample(index).meta
        )


def test_a_listing_names_every_object_in_its_part_and_wrong_ones_score_less():
    task = TASKS["scene_parts"]()
    for index in range(30):
        sample = task.sample(index)
        scene = Scene.from_json(sample.meta["turns"][0]["scene"])
        text = sample.messages[1]["content"][0]["text"]
        parts = text.removeprefix("Seen: ").removesuffix(".").split("; ")
        assert len(parts) == 9
        for part in parts:
            (said, *_) = [name for name in sorted(CELL_NAMES, key=len, reverse=True) if part.startswith(name)]
            there = [item for item in scene.objects if cell(item) == said]
            assert len(mentions(part)) == len(there)
            assert all(any(m.wanted.matches(item) for m in mentions(part)) for item in there)
        empty = "; ".join(f"{name} {NOTHING}" for name in CELL_NAMES) + "."
        share = sum(part.endswith(NOTHING) for part in parts) / 9
        assert task.score(sample, [{"type": "text", "text": empty}]) == {"parts": share, "all": 0.0}


def test_plans_say_the_steps_of_drawings_and_of_edits_alone():
    task, forms = TASKS["scene_plan"](), {"drawing": 0, "shown": 0, "listed": 0}
    for index in range(90):
        sample = task.sample(index)
        *pictures, request = sample.messages[0]["content"]
        (answer,) = sample.messages[1]["content"]
        assert task.score(sample, [answer]) == {"all": 1.0}
        before, mark, steps = answer["text"].partition("1 of ")
        other = steps.replace("outlined", "solid").replace("large", "small").replace("left", "right")
        if other != steps:
            wrong = before + mark + other
            scores = task.score(sample, [{"type": "text", "text": wrong}])
            assert "prompt" in sample.meta["turns"][0] or scores == {"all": 0.0}
        listed = "Seen: " in request["text"]
        assert answer["text"].startswith("Seen: ") == bool(pictures)
        assert mark
        forms["shown" if pictures else "listed" if listed else "drawing"] += 1
    assert min(forms.values()) > 15, forms


def test_what_no_demand_names_is_drawn_last():
    sample = TASKS["scene_draw"](SceneConfig(categories=("complete",), least=2, most=2)).sample(0)
    prompt = Prompt.from_json(sample.meta["turns"][0]["prompt"])
    task = TASKS["scene_question"](SceneConfig(least=3, most=3))
    scene = Scene.from_json(task.sample(0).meta["turns"][0]["scene"])
    steps = drawing_steps(prompt, scene)
    assert set(steps[-1].scene.objects) == set(scene.objects)


@pytest.mark.parametrize("share", [-0.1, 1.5, "all"])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="stepwise is a share"):
        SceneConfig(stepwise=share)
