"""Pictures by other hands show the same scenes, and edits leave the rest as it is."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from unified.tasks.packing import content_digest
from unified.tasks.scenes import TASKS, SceneConfig, random_scene
from unified.tasks.scenes.chatting import SceneChat
from unified.tasks.scenes.drawing import CATEGORIES
from unified.tasks.scenes.oddities import FIGURES, HELD_OUT
from unified.tasks.scenes.scene import COLOURS, GROUNDS, Scene
from unified.tasks.scenes.thoughts import THINKING
from unified.tasks.scenes.turns import Maker
from unified.tasks.scenes.unknown import UNSEEN, UnknownPicture
from unified.tasks.scenes.varied import APART, VariedRenderer, readable, regrounded

VARIED = SceneConfig(wording="free", renderer="varied", stepwise=1.0, most=3)


def quiet(seed):
    """A hand without noise and JPEG, whose pixels are those of one shape each."""
    hand = VariedRenderer(seed)
    hand.noise, hand.quality = 0.0, 0
    return hand


@pytest.mark.parametrize("seed", range(12))
def test_every_object_is_drawn_where_it_is_and_nowhere_else(seed):
    rng = np.random.default_rng(seed)
    scene, hand = regrounded(rng, random_scene(rng, "train")), quiet(seed)
    whole = hand.render(scene).astype(float)
    for item in scene.objects:
        rest = replace(scene, objects=tuple(other for other in scene.objects if other is not item))
        changed = np.abs(whole - hand.render(rest)).sum(axis=-1)
        assert changed.max() > APART / 2
        rows, columns = np.nonzero(changed > 30)
        reach = 1.35 * item.radius + 2.5 / 64
        assert np.abs((columns + 0.5) / 64 - item.x).max() < reach
        assert np.abs((rows + 0.5) / 64 - item.y).max() < reach
        middle = np.array([columns.mean(), rows.mean()]) / 64 - (item.x, item.y)
        assert np.hypot(*middle) < 0.5 * item.radius


def test_sizes_and_fills_are_told_apart():
    rng = np.random.default_rng(0)
    for seed in range(10):
        hand, (item, *_) = quiet(seed), random_scene(rng, "train").objects
        item = replace(item, x=0.5, y=0.5)
        hand.forms[item.shape, "outline"] = hand.forms[item.shape, "solid"]  # else of other sizes
        scene = regrounded(rng, Scene(objects=(item,)))
        empty = hand.render(replace(scene, objects=())).astype(float)

        def covered(size, fill):
            shown = replace(scene, objects=(replace(item, size=size, fill=fill),))  # noqa: B023
            return int((np.abs(hand.render(shown) - empty).sum(axis=-1) > 60).sum())  # noqa: B023

        small, medium, large = (covered(size, "solid") for size in ("small", "medium", "large"))
        assert small * 1.3 < medium < large / 1.3
        assert covered("large", "outline") < 0.95 * large


def test_grounds_keep_clear_of_the_objects():
    rng = np.random.default_rng(1)
    names = set()
    for _ in range(60):
        scene = regrounded(rng, random_scene(rng, "train"))
        names.add(scene.background)
        assert readable(scene)
        for item in scene.objects:
            assert np.linalg.norm(np.subtract(GROUNDS[scene.background], COLOURS[item.colour])) >= APART
    assert {"white", "black"} <= names


def test_an_edit_is_drawn_by_the_same_hand_and_leaves_the_rest():
    task = TASKS["scene_edit"](VARIED)
    kept = []
    for index in range(12):
        sample = task.sample(index)
        pictures = [
            i["image"].astype(int) for m in sample.messages for i in m["content"] if i["type"] == "image"
        ]
        kept.append((np.abs(pictures[0] - pictures[-1]).max(axis=-1) < 40).mean())
        assert content_digest(task.sample(index)) == content_digest(sample)
    assert min(kept) > 0.6
    assert np.mean(kept) > 0.85


def test_what_the_model_draws_has_our_own_style():
    plain = TASKS["scene_draw"](replace(VARIED, renderer="own", wording="plain"))
    varied = TASKS["scene_draw"](VARIED)
    tones = set(COLOURS.values())
    for task in (plain, varied):
        image = task.sample(3).messages[-1]["content"][-1]["image"]
        assert tones & set(map(tuple, image.reshape(-1, 3).tolist()))


def conversations(count):
    """The turns of so many conversations, not drawn."""
    maker = Maker(
        split="train", least=1, most=3, textures=("plain",), categories=tuple(CATEGORIES), settled=0.5,
        stepwise=1.0, wording="free", grounds=True,
    )  # fmt: skip
    task, rng = SceneChat(VARIED), np.random.default_rng(2)
    return [task.turns(rng, maker) for _ in range(count)]


def test_inner_speech_is_never_a_reply_to_small_talk():
    after_thinking = 0
    for turn in (turn for turns in conversations(60) for turn in turns if turn.data["kind"] == "talk"):
        assert not any(mark in turn.text for mark in ("Seen:", "So ", "? "))
        after_thinking += turn.request.endswith(THINKING)
    assert after_thinking


def test_commands_follow_anything():
    kinds = set()
    for turns in conversations(100):
        kinds |= {(a.data["kind"], b.data["kind"]) for a, b in pairwise(turns)}
    assert {(before, "talk") for before in ("talk", "parts", "question", "draw", "edit")} <= kinds
    assert {("talk", "draw"), ("talk", "edit"), ("talk", "question"), ("talk", "parts")} <= kinds


def test_unknown_pictures_are_declined_directly_and_after_a_list():
    task = UnknownPicture()
    forms = set()
    for index in range(30):
        sample = task.sample(index)
        said = [m["content"][-1]["text"] for m in sample.messages]
        forms.add(len(said))
        assert said[-1].startswith(("I am sorry", "I do not know"))
        assert len(said) == 2 or said[1] == UNSEEN
    assert forms == {2, 4}
    assert set(HELD_OUT) < set(FIGURES)
