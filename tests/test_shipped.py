"""The weights in the package: their size, their card, and that they do roughly what the card says."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from unified.eval.measurement import Run
from unified.eval.metrics.images import squared_error
from unified.eval.suites.questions import SHORT
from unified.tasks.scenes import SceneConfig
from unified.tasks.scenes.scene_tasks import SceneDraw, SceneQuestion
from unified.tasks.scenes.turns import image_of
from unified.tasks.worlds.clips import WorldConfig, watch

import unified
from unified.apps.assistant import DRAWING
from unified.apps.rollout import Rollout
from unified.pretrained import SHIPPED

pytestmark = pytest.mark.skipif(
    not (SHIPPED / "config.json").is_file(), reason="this copy ships no trained weights"
)


@pytest.fixture(scope="module")
def assistant():
    return unified.load(device="cpu")


def test_it_is_small_and_has_a_card(assistant):
    parameters = sum(p.numel() for part in (assistant.model, assistant.visual) for p in part.parameters())
    assert parameters <= 25e6
    read_outs = sum(
        path.stat().st_size for path in SHIPPED.glob("reward_*.safetensors")
    )  # of tasks in the dream
    assert read_outs <= 0.2e6
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) - read_outs <= 50e6
    card = (SHIPPED / "README.md").read_text()
    for part in ("Data", "Recipe", "commit", "hours", "Numbers", "unified eval"):
        assert part in card
    assert not re.search(r"/(work|tmp|root|home)/", card)


@torch.no_grad()
@pytest.mark.slow
def test_it_answers_better_than_without_the_picture(assistant):
    run, task = Run(assistant=assistant, split="validation"), SceneQuestion(SceneConfig(seed=3))
    samples = [task.sample(index, "validation") for index in range(96)]
    blind = [
        [{**m, "content": [item for item in m["content"] if item["type"] == "text"]} for m in s.messages[:-1]]
        for s in samples
    ]
    right = []
    for prompts in (None, blind):
        replies = run.answers(samples, SHORT, prompts)
        scores = [
            task.score(sample, reply)["correct"] for sample, reply in zip(samples, replies, strict=True)
        ]
        right.append(float(np.mean(scores)))
    assert right[0] > right[1] + 0.05
    assert right[0] > 0.45


@pytest.mark.slow
def test_it_draws_what_is_asked_for_more_often_than_for_another_prompt(assistant):
    run, task = Run(assistant=assistant), SceneDraw(SceneConfig(seed=3, most=1))
    samples = [task.sample(index, "validation") for index in range(48)]
    replies = run.answers(samples, DRAWING)
    assert all(image_of(reply).shape == (64, 64, 3) for reply in replies)
    other = [*samples[1:], samples[0]]
    own, swapped = (
        np.mean([task.score(s, r)["all"] for s, r in zip(judged, replies, strict=True)])
        for judged in (samples, other)
    )
    assert own > swapped + 0.1


def test_an_imagined_frame_is_nearer_than_the_last_one(assistant):
    clips = [watch(WorldConfig(frames=2, seed=3), index, "validation") for index in range(24)]
    rollout = Rollout(assistant.model, assistant.processor, [[clip.frames[0]] for clip in clips])
    made = rollout.step([clip.actions[0] for clip in clips])
    own = np.mean([squared_error(frame, clip.frames[1]) for frame, clip in zip(made, clips, strict=True)])
    copied = np.mean([squared_error(*clip.frames) for clip in clips])
    assert own < copied


def test_the_package_lists_its_weights():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert '"unified" = ["weights/**", "py.typed"]' in text
