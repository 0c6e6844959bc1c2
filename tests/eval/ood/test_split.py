"""No phrasing and no setting of the out-of-distribution suite occurs in training data."""

from itertools import product

import numpy as np
import pytest
from unified.eval.suites.ood.split import digest, normal_form, phrasing_hashes, setting_hashes
from unified.tasks import small_talk
from unified.tasks.registry import make
from unified.tasks.scenes import shapes
from unified.tasks.scenes.scene import BACKGROUNDS, COLOURS

SAMPLED = {
    "scene_quiz": 30,
    "scene_draw": 80,
    "scene_edit": 50,
    "scene_conversation": 10,
}  # questions: 8 a quiz
QUICK = {"small_talk": 100, "maze": 2, "maze_text": 2}


@pytest.fixture
def training_prompts(monkeypatch):
    """Normal forms of what users say in training samples; their pictures, which take the time, are blank."""
    blank = np.zeros((32, 32, 3), np.uint8)
    for module in ("scene_tasks", "turns"):
        monkeypatch.setattr(f"unified.tasks.scenes.{module}.render", lambda *_: blank)
    said = set()
    tasks = {name: make(name, size=32) for name in SAMPLED} | {name: make(name) for name in QUICK}
    for name, count in (SAMPLED | QUICK).items():
        task = tasks[name]
        for index in range(count):
            for message in task.sample(index, "train").messages:
                if message["role"] == "user":
                    said |= {
                        normal_form(item["text"]) for item in message["content"] if item["type"] == "text"
                    }
    for templates in (*small_talk.OUTSIDE.values(), *small_talk.TALK.values()):
        for template, hello in product(templates, ("", "Hello! ")):
            said.add(normal_form(hello + template))
    return said


def test_no_phrasing_is_one_of_training(training_prompts):
    hashes = phrasing_hashes()
    assert len(hashes) > 250
    both = {form: hashes[digest(form)] for form in training_prompts if digest(form) in hashes}
    assert not both, "phrasings of the out-of-distribution suite in training data: take them out of there"


def test_the_comparison_finds_a_phrasing_whatever_fills_it():
    hashes = phrasing_hashes()
    for text in ("count the small blue stars, for me please", "Get rid of the hollow heart!", "Hiya!"):
        assert digest(normal_form(text)) in hashes
    assert digest(normal_form("How many stars are there?")) not in hashes


def test_no_setting_is_one_of_training():
    values = {
        "outline": [shapes.STROKE],
        "rotation": [0],
        "palette": list(COLOURS.values()),
        "ground": list(BACKGROUNDS.values()),
        "floor": [(255, 255, 255)],
        "wall_colour": [(0, 0, 0)],
        "start": [(0, 160, 0)],
        "goal": [(255, 0, 0)],
    }
    hashes = setting_hashes()
    assert len(hashes) > 60
    used = [f"{name}={value}" for name, found in values.items() for value in found]
    assert not {digest(text) for text in used} & set(hashes)
    assert digest("rotation=7") in hashes
