"""Best-of-n: an image that does not show what its text says is drawn again, and the best one is kept."""

import numpy as np
import pytest
from unified.tasks.scenes import TASKS, SceneConfig
from unified.tasks.scenes.drawing import Prompt
from unified.tasks.scenes.editing import Edit, apply
from unified.tasks.scenes.listing import seen
from unified.tasks.scenes.relations import CELL_NAMES
from unified.tasks.scenes.scene import Scene
from unified.tasks.scenes.steps import drawing_steps, editing_steps

from unified.apps.assistant import Assistant
from unified.apps.best_of_n import PLACES, agreement, best_of_n, described, listed
from unified.apps.demo import random_model

LIST = "Seen: " + "; ".join(f"{place} nothing" for place in PLACES) + "."
TWO = "1 of 2: a red star in the top left, on a grey background. 2 of 2: a blue moon in the centre."


def turns(task, number, config=None):
    made = TASKS[task](config)
    for index in range(number):
        yield made.sample(index).meta["turns"][0]


def picture(shade):
    return np.full((8, 8, 3), shade, dtype=np.uint8)


def answer(words, *shades):
    return [
        {"type": "text", "text": words},
        *({"type": "image", "image": picture(shade)} for shade in shades),
    ]


def test_the_parts_are_those_of_the_tasks():
    assert PLACES == CELL_NAMES


def test_what_steps_say_is_what_a_list_of_their_result_names():
    for turn in turns("scene_edit", 80, SceneConfig(most=4)):
        scene, edit = Scene.from_json(turn["scene"]), Edit.from_json(turn["edit"])
        words = " ".join(step.text for step in editing_steps(edit, scene))
        assert agreement(described(words), listed(seen(apply(edit, scene)))) == 1
        assert agreement(described(words), listed(seen(scene))) < 1 or edit.kind == "swap"
    task = TASKS["scene_draw"](SceneConfig(stepwise=1.0))
    for index in range(40):
        sample = task.sample(index)
        words = "".join(item["text"] for item in sample.messages[1]["content"] if item["type"] == "text")
        shown = described(words)
        demands = Prompt.from_json(sample.meta["turns"][0]["prompt"]).demands
        assert sum(map(len, shown.values())) >= len(demands)
        assert all(demand.cell is None or demand.cell in shown for demand in demands)


def test_a_scene_agrees_with_its_own_steps_only():
    prompt = Prompt.from_json(next(turns("scene_draw", 1))["prompt"])
    scenes = [Scene.from_json(turn["scene"]) for turn in turns("scene_parts", 12)]
    for scene in scenes:
        steps = drawing_steps(prompt, scene)
        words = " ".join(step.text for step in steps)
        assert [agreement(described(words), listed(seen(other))) == 1 for other in scenes].count(True) == 1
        assert agreement(described(words), listed(seen(scene))) == 1


def test_the_first_picture_that_agrees_is_kept_and_no_more_are_drawn():
    right = LIST.replace("top left nothing", "top left a red star")
    right = right.replace("; centre nothing", "; centre a blue moon")
    asked, looked = [], []

    def draw(numbers, attempt):
        asked.append((list(numbers), attempt))
        return [answer(TWO, 10 * number + attempt) for number in numbers]

    def look(pictures):
        looked.append(len(pictures))
        return [answer(right if shown[0, 0, 0] in (0, 11) else LIST) for shown in pictures]

    kept = best_of_n(3, draw, look, tries=3)
    assert [found[-1]["image"][0, 0, 0] for found in kept] == [0, 11, 20]
    assert asked == [([0, 1, 2], 0), ([1, 2], 1), ([2], 2)]
    assert looked == [3, 2, 1]


def test_the_nearest_is_kept_where_none_agrees():
    near = LIST.replace("top left nothing", "top left a red star")

    def look(pictures):
        return [answer(near if shown[0, 0, 0] == 1 else LIST) for shown in pictures]

    (kept,) = best_of_n(1, lambda numbers, attempt: [answer(TWO, attempt)], look, tries=3)
    assert kept[-1]["image"][0, 0, 0] == 1


@pytest.mark.parametrize(
    ("words", "shades", "tries"),
    [
        ("1 of 1: a red star in the top left, on a grey background.", [1], 3),  # one thing alone
        ("no picture", [], 3),
        (TWO, [1], 1),
    ],
)
def test_what_need_not_be_looked_at_is_not(words, shades, tries):
    def look(pictures):
        raise AssertionError("looked")

    (kept,) = best_of_n(1, lambda numbers, attempt: [answer(words, *shades)], look, tries)
    assert kept[0]["text"] == words
    assert len(kept) == 1 + len(shades)


def test_no_tries_are_refused():
    with pytest.raises(ValueError, match="tries must be a whole number of at least 1"):
        best_of_n(1, lambda numbers, attempt: [], lambda pictures: [], 0)


def test_a_model_without_words_draws_once_and_the_same_each_time():
    assistant = Assistant(*random_model(), side=32)
    once, thrice = (assistant.draw("Draw a red circle.", tries=tries) for tries in (1, 3))
    assert np.array_equal(once, thrice)
