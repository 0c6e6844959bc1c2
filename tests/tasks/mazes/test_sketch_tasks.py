"""Traces whose algorithm lives in the pictures: `maze_fill` and `maze_path`."""

import numpy as np
import pytest
from unified.tasks.mazes import FillConfig, MazeConfig, MazeFillTask, MazePathTask
from unified.tasks.mazes.fill_task import FILL, WALK, mark_in
from unified.tasks.mazes.metrics import read_segments
from unified.tasks.mazes.trace import images_of, text_of


def answer_of(sample):
    return sample.messages[-1]["content"]


@pytest.mark.parametrize("split", ["train", "compositional"])
def test_words_stand_before_filling_and_after_each_action_of_the_walk(split):
    for index in range(10):
        sample = MazeFillTask().sample(index, split)
        content = answer_of(sample)
        texts = [item["text"] for item in content if item["type"] == "text"]
        fills = texts.count(FILL)
        assert texts[:fills] == [FILL] * fills
        assert texts[fills] == WALK
        assert [item["type"] for item in content[: 2 * fills + 2]] == ["text", "image"] * (fills + 1)
        assert [a for segment in read_segments(text_of(content)) for a in segment] == sample.meta["actions"]
        assert len(images_of(content)) == len(sample.meta["parts"])
        assert sum(sample.meta["parts"]) == len(sample.meta["actions"])
        assert content[-1]["type"] == "image" or content[-1]["text"].startswith("<actions>")


def test_the_scorer_sees_what_is_wrong():
    task = MazeFillTask()
    sample = task.sample(1, "compositional")
    answer = answer_of(sample)
    assert task.score(sample, answer) == task.score(sample, answer) | {
        "success": 1.0,
        "progress": 1.0,
        "goal_reached": 1.0,
        "visual_success": 1.0,
        "layout": 1.0,
        "sketches": 1.0,
    }
    pictures = len(images_of(answer))
    first = next(place for place, item in enumerate(answer) if item["type"] == "image")
    skipped = [item for place, item in enumerate(answer) if place != first]
    score = task.score(sample, skipped)
    assert (score["success"], score["visual_success"]) == (1, 1)
    assert score["sketches"] < 1

    last = max(place for place, item in enumerate(answer) if item["type"] == "image")
    early = [item for place, item in enumerate(answer) if place != last]
    score = task.score(sample, early)
    assert (score["visual_success"], score["sketches"]) == (0, (pictures - 1) / pictures)

    white = [
        {**item, "image": np.full_like(item["image"], 255)} if "image" in item else item for item in answer
    ]
    score = task.score(sample, white)
    assert (score["success"], score["visual_success"], score["layout"], score["sketches"]) == (1, 0, 0, 0)

    small = [{"type": "image", "image": np.zeros((8, 8, 3), np.uint8)}]
    assert task.score(sample, small)["visual_success"] == 0


def test_pixels_a_little_off_are_still_read():
    task = MazeFillTask()
    sample = task.sample(2)
    rng = np.random.default_rng(0)

    def worn(image):
        return (image + rng.integers(-12, 13, image.shape)).clip(0, 255).astype(np.uint8)

    answer = [
        {**item, "image": worn(item["image"])} if "image" in item else item for item in answer_of(sample)
    ]
    assert task.score(sample, answer)["sketches"] == 1
    assert task.score(sample, answer)["visual_success"] == 1
    assert text_of(task.read_sketches(sample, images_of(answer))) == "".join(
        item["text"] for item in answer if item["type"] == "text" and item["text"] not in (FILL, WALK)
    )


def test_a_maze_stands_anywhere_in_its_picture():
    corners = {tuple(MazeFillTask().sample(index).meta["corner"]) for index in range(40)}
    assert len(corners) > 15
    assert all(value % 8 == 0 and value <= 40 for corner in corners for value in corner)


def test_the_arrow_of_the_question_has_done_nothing():
    for index in range(5):
        assert mark_in(MazeFillTask().sample(index).messages[0]["content"][0]["image"]) == "start"
    assert mark_in(np.full((8, 8, 3), 255, np.uint8)) == "start"


def test_a_stretch_is_drawn_before_it_is_told():
    for index in range(10):
        sample = MazePathTask().sample(index, "compositional")
        content = answer_of(sample)
        assert [item["type"] for item in content] == ["image", "text"] * len(sample.meta["parts"])
        assert [len(part) for part in read_segments(text_of(content))] == sample.meta["parts"]
        assert content[1]["text"].count("\n") == 2  # nothing but the actions


def test_a_path_is_read_off_its_pictures_alone():
    for size in (64, 128):
        task = MazePathTask(MazeConfig(image_size=size))
        for index in range(12):
            sample = task.sample(index, "compositional")
            read = task.read_sketches(sample, images_of(answer_of(sample)))
            assert text_of(read) == text_of(answer_of(sample))
        blank = [np.full((size, size, 3), 255, np.uint8)]
        assert text_of(task.read_sketches(sample, blank)) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"rounds": 0}, "rounds"),
        ({"image_size": 56}, "no room for 6x8"),
        ({"image_size": 60}, "multiple of 8"),
        ({"sizes": ((2, 3),)}, "3x3 to 8x8"),
        ({"unseen_sizes": ((5, 5),)}, "must not be trained on"),
        ({"min_actions": 0}, "min_actions"),
    ],
)
def test_bad_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        FillConfig(**change)
    assert "\n" not in str(caught.value)


def test_a_chart_is_refused_where_words_say_what_a_sketch_shows():
    with pytest.raises(ValueError, match="no chart"):
        MazePathTask(MazeConfig(charted=True))
