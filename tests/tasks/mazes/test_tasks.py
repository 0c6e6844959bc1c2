import hashlib
import json
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from unified.tasks.mazes import TASKS, FrozenLakeTask, LakeConfig, MazeConfig, MazeTask, MazeTextTask, rates
from unified.tasks.mazes.lake import Lake, cross, named_lake
from unified.tasks.mazes.lake_task import lake_split
from unified.tasks.mazes.maze import FORWARD, Maze, plan
from unified.tasks.mazes.metrics import read_answer, read_segments
from unified.tasks.mazes.trace import CLOSING, cut, images_of, text_of
from unified.tasks.mazes.write import samples
from unified.tasks.sample import SPLITS

ANY_TASK = pytest.mark.parametrize("name", TASKS)


def digest(sample):
    """Everything in a sample, pixels included."""
    content = [item for message in sample.messages for item in message["content"]]
    plain = [item["text"] if item["type"] == "text" else item["image"].tobytes().hex() for item in content]
    return hashlib.sha256(json.dumps([sample.task, plain, sample.meta]).encode()).hexdigest()


def layout(sample):
    return sample.meta.get("lake") or sample.meta["maze"]["cells"]


def answer_of(sample):
    return sample.messages[-1]["content"]


@ANY_TASK
def test_same_seed_same_bytes_in_any_number_of_workers(name):
    alone = [digest(sample) for sample in samples(TASKS[name](), "test", 20)]
    shared = [digest(sample) for sample in samples(TASKS[name](), "test", 20, workers=2)]
    assert alone == shared
    assert alone[7] == digest(TASKS[name]().sample(7, "test"))
    assert len(set(alone)) > 15
    config = type(TASKS[name]().config)(seed=1)
    assert digest(TASKS[name](config).sample(7, "test")) != alone[7]


@ANY_TASK
def test_splits_share_no_layout(name):
    seen = {}
    for split in SPLITS:
        found = {tuple(layout(TASKS[name]().sample(index, split))) for index in range(50)}
        for other, layouts in seen.items():
            assert not found & layouts, (split, other)
        seen[split] = found


@ANY_TASK
def test_unseen_sizes_appear_in_the_compositional_split_only(name):
    task = TASKS[name]()
    sizes = {split: {tuple(task.sample(i, split).meta["size"]) for i in range(60)} for split in SPLITS}
    unseen = sizes.pop("compositional")
    seen = set.union(*sizes.values())
    assert not unseen & seen
    if name == "frozen_lake":
        assert seen == {(4, 4), (5, 5), (6, 6)}
        assert unseen == {(8, 8)}
    else:
        assert seen == {(r, c) for r in (3, 4, 5) for c in (3, 4, 5)}
        assert unseen == {(r, c) for r in (6, 7, 8) for c in (6, 7, 8)}


@ANY_TASK
@pytest.mark.parametrize("split", ["train", "compositional"])
def test_the_label_scores_full_marks(name, split):
    task = TASKS[name]()
    chosen = [task.sample(index, split) for index in range(8)]
    total = rates([task.score(sample, answer_of(sample)) for sample in chosen])
    assert (total.success_rate, total.progress_rate) == (1, 1)
    if name == "maze_text":
        assert (total.images, total.visual_success_rate, total.layout_consistency_rate) == (0, 0, None)
    else:
        assert (total.visual_success_rate, total.layout_consistency_rate) == (1, 1)


@ANY_TASK
def test_meta_is_plain_json_and_enough_to_score(name):
    sample = TASKS[name]().sample(3)
    bare = type(sample)(task=sample.task, messages=[], meta=json.loads(json.dumps(sample.meta)))
    answer = answer_of(sample)
    assert TASKS[name]().score(bare, answer) == TASKS[name]().score(sample, answer)


@pytest.mark.parametrize("name", ["maze", "frozen_lake"])
def test_traces_have_the_described_form(name):
    task = TASKS[name]()
    for index in range(30):
        sample = task.sample(index, "compositional")
        question, answer = (message["content"] for message in sample.messages)
        assert [item["type"] for item in question] == ["image", "text"]
        kinds = [item["type"] for item in answer]
        assert kinds == ["text", "image"] * len(sample.meta["parts"]) + ["text"]
        text = text_of(answer)
        segments = read_segments(text)
        assert [len(segment) for segment in segments] == sample.meta["parts"]
        assert all(3 <= length <= 6 for length in sample.meta["parts"])
        assert [action for segment in segments for action in segment] == sample.meta["actions"]
        assert read_answer(text) == sample.meta["actions"]
        assert text.endswith(f"</answer>\n{CLOSING}")
        announced = [int(number) for number in re.findall(r"the next (\d+) steps", text)]
        assert announced == sample.meta["parts"]
        for item, after in pairwise(answer):
            if after["type"] == "image":
                assert item["text"].endswith("</actions>")
        pictures = [image.tobytes() for image in images_of(question) + images_of(answer)]
        assert len(set(pictures)) == len(pictures)


def test_maze_parts_end_with_a_move_and_lengths_vary():
    lengths = Counter()
    for index in range(60):
        sample = MazeTask().sample(index, "compositional")
        lengths.update(sample.meta["parts"])
        segments = read_segments(text_of(answer_of(sample)))
        assert all(segment[-1] == FORWARD for segment in segments)
    assert set(lengths) == {3, 4, 5, 6}


def test_parts_where_a_stop_is_rare():
    rng = np.random.default_rng(0)
    assert cut(rng, ["a", "b"], [True, True]) == [2]
    assert cut(rng, ["a"] * 9, [False] * 8 + [True]) == [9]
    assert cut(rng, ["a"] * 8, [index == 4 for index in range(8)]) == [5, 3]


def test_the_text_task_has_the_same_words():
    drawn, plain = MazeTask().sample(4), MazeTextTask().sample(4)
    assert text_of(answer_of(drawn)) == text_of(answer_of(plain))
    assert images_of(answer_of(plain)) == []
    assert len(answer_of(plain)) == 1
    assert np.array_equal(drawn.messages[0]["content"][0]["image"], plain.messages[0]["content"][0]["image"])


@pytest.mark.parametrize("size", [64, 224])
def test_wrong_answers_lose_what_they_should(size):
    task = MazeTask(MazeConfig(image_size=size))
    sample = task.sample(2, "compositional")
    answer, actions = answer_of(sample), sample.meta["actions"]
    pictures, words = images_of(answer), text_of(answer)

    half = [item for item in answer if item["type"] == "text"][:1]
    score = task.score(sample, half)
    assert (score["success"], score["goal_reached"], score["visual_success"]) == (0, 0, 0)
    assert score["progress"] == sample.meta["parts"][0] / len(actions)

    no_last_state = [{"type": "text", "text": words}, {"type": "image", "image": pictures[-2]}]
    score = task.score(sample, no_last_state)
    assert (score["success"], score["visual_success"], score["layout"]) == (1, 0, 1)

    blank = [*answer[:-2], {"type": "image", "image": np.full_like(pictures[0], 255)}, answer[-1]]
    score = task.score(sample, blank)
    assert (score["success"], score["visual_success"]) == (1, 0)
    assert score["layout"] == 1 - 1 / len(pictures)

    assert task.score(sample, [])["progress"] == 0


def test_a_detour_reaches_the_goal_but_is_no_success():
    sample = MazeTask().sample(0)
    detour = ", ".join(["turn left"] * 4 + sample.meta["actions"])
    score = MazeTask().score(sample, [{"type": "text", "text": f"<actions>{detour}</actions>"}])
    assert score["goal_reached"] == 1
    assert score["success"] == 0


def test_any_shortest_way_over_the_ice_succeeds_with_its_own_picture():
    task = FrozenLakeTask()
    lake = named_lake("4x4")
    sample = task.sample_of(lake, np.random.default_rng(0))
    other = ["right", "right", "down", "down", "down", "right"]
    from unified.tasks.mazes.render import draw_lake

    text = {"type": "text", "text": f"<actions>{', '.join(other)}</actions>"}
    drawn = {"type": "image", "image": draw_lake(lake, 64, cross(lake, other).cells)}
    assert other != sample.meta["actions"]
    score = task.score(sample, [text, drawn])
    assert (score["success"], score["progress"], score["visual_success"]) == (1, 1, 1)
    empty = {"type": "image", "image": draw_lake(lake, 64)}
    score = task.score(sample, [{"type": "text", "text": "<actions>right, right, right</actions>"}, empty])
    assert (score["success"], score["progress"], score["visual_success"], score["layout"]) == (0, 2 / 6, 0, 1)


def test_the_published_small_map_is_never_trained_on():
    assert lake_split(named_lake("4x4")) == "test"
    task = FrozenLakeTask(LakeConfig(sizes=(4,)))
    trained = {Lake(tiles=tuple(task.sample(index).meta["lake"])) for index in range(100)}
    assert named_lake("4x4") not in trained


def test_a_given_maze_becomes_a_sample():
    maze = Maze(cells=("6ec", "555", "111"), start=(2, 0), heading=0, goal=(2, 1))
    sample = MazeTask().sample_of(maze, np.random.default_rng(0))
    assert sample.meta["actions"] == plan(maze)
    assert Maze.from_json(sample.meta["maze"]) == maze


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (MazeConfig, {"seed": -1}, "seed"),
        (MazeConfig, {"image_size": 50}, "too small"),
        (MazeConfig, {"sizes": ((2, 3),)}, "3x3 to 8x8"),
        (MazeConfig, {"sizes": ()}, "at least one"),
        (MazeConfig, {"unseen_sizes": ((5, 5),)}, "must not be trained on"),
        (MazeConfig, {"min_actions": 0}, "min_actions"),
        (LakeConfig, {"seed": -1}, "seed"),
        (LakeConfig, {"image_size": 16}, "too small"),
        (LakeConfig, {"sizes": (3,)}, "4 to 8"),
        (LakeConfig, {"sizes": (8,)}, "must not share"),
        (LakeConfig, {"frozen": 0.1}, "frozen"),
    ],
)
def test_bad_configurations_are_refused(config, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        config(**change)
    assert "\n" not in str(caught.value)


@ANY_TASK
def test_bad_requests_and_answers_are_refused(name):
    task = TASKS[name]()
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        task.sample(0, "dev")
    with pytest.raises(ValueError, match=r"."):
        task.sample(-1)
    sample = task.sample(0)
    bad_answers = ["go", [3], [{"type": "sound"}], [{"type": "text"}], [{"type": "image", "image": [1]}]]
    for answer in bad_answers:
        with pytest.raises(ValueError, match=r"answer|item") as caught:
            task.score(sample, answer)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="in its meta"):
        task.score(type(sample)(task=name, messages=[]), [])
