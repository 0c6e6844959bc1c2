"""The scene tasks as a trainer meets them."""

import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from unified.tasks.packing import content_digest as digest
from unified.tasks.sample import SPLITS
from unified.tasks.scenes import TASKS, SceneConfig
from unified.tasks.scenes.drawing import CATEGORIES, Prompt
from unified.tasks.scenes.editing import Edit, apply
from unified.tasks.scenes.generate import HELD_OUT, LATTICE, belongs, settle
from unified.tasks.scenes.listing import seen
from unified.tasks.scenes.scene import Scene
from unified.tasks.scenes.scene_tasks import QUIZ
from unified.tasks.scenes.turns import score_turn

each_task = pytest.mark.parametrize("task", [make() for make in TASKS.values()], ids=list(TASKS))


def digest_of(key):
    name, index, split = key
    return digest(TASKS[name]().sample(index, split))


@each_task
def test_messages_follow_the_chat_convention(task):
    for index in range(20):
        sample = task.sample(index)
        assert sample.task == task.name
        assert [m["role"] for m in sample.messages] == ["user", "assistant"] * (len(sample.messages) // 2)
        json.dumps(sample.meta)
        assert len(sample.meta["turns"]) == len(sample.messages) // 2
        for part in (part for message in sample.messages for part in message["content"]):
            if part["type"] == "image":
                assert part["image"].shape == (64, 64, 3)
                assert part["image"].dtype == np.uint8
            else:
                assert part["text"].strip()


@each_task
@pytest.mark.parametrize("split", SPLITS)
def test_the_reference_answer_scores_full_and_none_scores_nothing(task, split):
    for index in range(12):
        sample = task.sample(index, split)
        scores = task.score(sample, sample.messages[-1]["content"])
        assert set(scores.values()) == {1.0}, (index, sample.meta)
        assert set(task.score(sample, []).values()) == {0.0}


def test_textures_and_categories_are_those_of_the_configuration():
    config = SceneConfig(textures=("plain", "stripes"), categories=("complete", "complete", "colours"))
    asked = [TASKS["scene_question"](config).sample(index).meta["turns"][0] for index in range(60)]
    assert {data["scene"]["texture"] for data in asked} == {"plain", "stripes"}
    drawn = [TASKS["scene_draw"](config).sample(index) for index in range(60)]
    found = Counter(sample.meta["category"] for sample in drawn)
    assert set(found) == {"complete", "colours"}
    assert found["complete"] > found["colours"]


def test_a_share_of_scenes_is_settled_and_so_is_all_that_edits_place():
    task = TASKS["scene_edit"](SceneConfig(settled=0.5))
    turns = [task.sample(index).meta["turns"][0] for index in range(60)]
    scenes = [Scene.from_json(turn["scene"]) for turn in turns]
    still = [all((item.x * LATTICE).is_integer() for item in scene.objects) for scene in scenes]
    assert 15 < sum(still) < 45
    placed = [(turn, scene) for turn, scene in zip(turns, scenes, strict=True) if turn["category"] == "add"]
    assert placed
    for turn, scene in placed:
        item = Edit.from_json(turn["edit"]).new[0]
        assert settle(item, scene.objects) == item


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settled": 1.5}, "settled is a share"),
        ({"settled": "all"}, "settled is a share"),
        ({"textures": ("bumpy",)}, "textures must be some of"),
        ({"textures": ()}, "textures must be some of"),
        ({"categories": ("sonnet",)}, "unknown category 'sonnet'"),
        ({"categories": ()}, "no category"),
        ({"categories": ("two_objects",), "most": 1}, "no category"),
    ],
)
def test_wishes_for_scenes_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SceneConfig(**options)


def test_categories_that_never_state_colours_have_no_compositional_prompts():
    with pytest.raises(ValueError, match="state every colour"):
        TASKS["scene_draw"](SceneConfig(categories=("single_object",))).sample(0, "compositional")


@each_task
def test_an_answer_to_another_sample_scores_less(task):
    samples = sorted((task.sample(index) for index in range(60)), key=lambda sample: sample.meta["category"])
    pairs = [(a, b) for a, b in pairwise(samples) if a.meta["category"] == b.meta["category"]]
    assert pairs
    scores = [min(task.score(a, b.messages[-1]["content"]).values()) for a, b in pairs]
    assert np.mean(scores) < 0.8


def test_the_same_index_gives_the_same_bytes_in_any_number_of_workers():
    keys = [(name, index, split) for name in TASKS for index in range(3) for split in ("train", "test")]
    alone = [digest_of(key) for key in keys]
    assert [digest_of(key) for key in keys[::-1]] == alone[::-1]
    with ProcessPoolExecutor(2) as pool:
        assert list(pool.map(digest_of, keys, chunksize=4)) == alone


@each_task
def test_seed_and_index_change_the_sample(task):
    other = type(task)(replace(task.config, seed=1))
    digests = {digest(task.sample(0)), digest(task.sample(1)), digest(other.sample(0))}
    assert len(digests) == 3


@each_task
def test_splits_share_no_sample_no_picture_and_no_scene(task):
    seen = {split: [task.sample(index, split) for index in range(25)] for split in SPLITS}
    images, samples, scenes = {}, {}, {}
    for split, drawn in seen.items():
        samples[split] = {digest(sample) for sample in drawn}
        parts = [part for sample in drawn for message in sample.messages for part in message["content"]]
        images[split] = {part["image"].tobytes() for part in parts if part["type"] == "image"}
        found = [scene for sample in drawn for turn in sample.meta["turns"] for scene in scenes_of(turn)]
        scenes[split] = {scene.canonical() for scene in found}
        assert all(belongs(scene, split) for scene in found)
    for kind in (samples, images, scenes):
        for a in SPLITS:
            for b in SPLITS:
                assert a == b or not kind[a] & kind[b]


def scenes_of(turn):
    """The scenes a turn shows, before and after an edit."""
    if "scene" not in turn:
        return []
    scene = Scene.from_json(turn["scene"])
    return [scene, apply(Edit.from_json(turn["edit"]), scene)] if "edit" in turn else [scene]


def test_drawing_prompts_cover_the_categories_and_name_held_out_pairs_only_where_they_may():
    task = TASKS["scene_draw"]()
    found = set()
    for split in ("train", "compositional"):
        for index in range(120):
            data = task.sample(index, split).meta["turns"][0]
            prompt = Prompt.from_json(data["prompt"])
            pairs = {(each.wanted.shape, each.wanted.colour) for each in prompt.demands}
            assert bool(pairs & HELD_OUT) == (split == "compositional")
            found.add(prompt.category)
    assert found == set(CATEGORIES)


def test_conversations_mix_drawing_editing_and_text():
    task = TASKS["scene_conversation"]()
    kinds = [[turn["kind"] for turn in task.sample(index).meta["turns"]] for index in range(60)]
    assert {kind for turns in kinds for kind in turns} == {"caption", "question", "parts", "draw", "edit"}
    assert all(2 <= len(turns) <= 9 for turns in kinds)
    listed = [turns[i + 1] for turns in kinds for i, kind in enumerate(turns) if kind == "parts"]
    assert set(listed) == {"question"}
    assert sum(len(set(turns)) > 1 for turns in kinds) > 40


def test_configuration_is_followed():
    config = SceneConfig(size=(48, 80), least=2, most=3)
    for make in TASKS.values():
        for index in range(6):
            sample = make(config).sample(index)
            for turn in sample.meta["turns"]:
                assert all(2 <= len(scene.objects) <= 3 for scene in scenes_of(turn))
            images = [p["image"] for m in sample.messages for p in m["content"] if p["type"] == "image"]
            assert all(image.shape == (48, 80, 3) for image in images)


def test_single_objects_only():
    for make in TASKS.values():
        sample = make(SceneConfig(least=1, most=1)).sample(0)
        assert sample.messages


@pytest.mark.parametrize(
    "bad", [{"size": 16}, {"size": 0}, {"seed": -1}, {"least": 0}, {"least": 3, "most": 2}, {"most": 9}]
)
def test_bad_configuration_is_refused_in_one_line(bad):
    with pytest.raises(ValueError, match=r"size|seed|objects") as error:
        SceneConfig(**bad)
    assert "\n" not in str(error.value)


@each_task
def test_bad_calls_are_refused(task):
    with pytest.raises(ValueError, match="unknown split"):
        task.sample(0, "holiday")
    for index in (-1, 1.5, "3"):
        with pytest.raises(ValueError, match="index must be"):
            task.sample(index)
    sample = task.sample(0)
    for content in ("yes", [3], [{"text": "yes"}], [{"type": "image"}], None):
        with pytest.raises(ValueError, match="an answer is a list"):
            task.score(sample, content)


def test_a_bad_image_is_refused():
    task = TASKS["scene_draw"]()
    with pytest.raises(ValueError, match="an image must be uint8"):
        task.score(task.sample(0), [{"type": "image", "image": np.zeros((64, 64, 3))}])


def test_a_quiz_asks_about_one_picture_and_answers_from_it():
    task = TASKS["scene_quiz"]()
    for index in range(12):
        sample = task.sample(index)
        pictures = [item for m in sample.messages for item in m["content"] if item["type"] == "image"]
        kinds = [turn["kind"] for turn in sample.meta["turns"]]
        assert len(pictures) == 1
        assert kinds in (["question"] * QUIZ, [*["question"] * QUIZ, "caption"])
        for number, turn in enumerate(sample.meta["turns"]):
            scores = score_turn(turn, sample.messages[2 * number + 1]["content"])
            assert min(scores.values()) == 1


def test_a_study_lists_its_picture_or_is_told_the_list_alone():
    task, shown = TASKS["scene_study"](), 0
    for index in range(40):
        sample = task.sample(index)
        kinds = [turn["kind"] for turn in sample.meta["turns"]]
        first = sample.messages[0]["content"]
        listed = seen(Scene.from_json(sample.meta["turns"][0]["scene"]))
        if first[0]["type"] == "image":
            shown += 1
            assert kinds[: QUIZ + 1] == ["parts", *["question"] * QUIZ]
            assert kinds[QUIZ + 1 :] in ([], ["caption"])
            assert sample.messages[1]["content"][0]["text"] == listed
        else:
            assert set(kinds) == {"question"}
            assert first[0]["text"].startswith(listed)
            assert all(turn["category"] != "background" for turn in sample.meta["turns"])
        later = [item for message in sample.messages[1:] for item in message["content"]]
        assert all(item["type"] == "text" for item in later)
    assert 10 < shown < 30
