"""Where will it be: moves in words, a sketch for each state, the place read off the last."""

import numpy as np
import pytest
from unified.tasks.scenes.moving import MovesConfig, SceneMoves, after_moves
from unified.tasks.scenes.scene import Scene


def answer_of(sample):
    return sample.messages[-1]["content"]


@pytest.mark.parametrize(("split", "lengths"), [("train", {2, 3, 4}), ("compositional", {5, 6})])
def test_a_sketch_for_every_move_then_the_place(split, lengths):
    task, seen = SceneMoves(), set()
    for index in range(20):
        sample = task.sample(index, split)
        moves, answer = sample.meta["moves"], answer_of(sample)
        seen.add(len(moves))
        assert [item["type"] for item in answer] == ["image"] * len(moves) + ["text"]
        question = sample.messages[0]["content"][1]["text"]
        assert question.count("Move the ") == len(moves)
        assert sample.meta["answer"] not in question
        assert any(number == sample.meta["asked"] for number, _ in moves)
    assert seen == lengths


def test_the_place_and_the_sketches_are_scored_apart():
    task = SceneMoves()
    sample = task.sample(0)
    answer = answer_of(sample)
    assert task.score(sample, answer) == {"success": 1, "sketches": 1, "images": len(answer) - 1}
    words = [answer[-1]]
    assert task.score(sample, words) == {"success": 1, "sketches": 0, "images": 0}
    first = [sample.messages[0]["content"][0], *answer[1:-1], {"type": "text", "text": "nowhere"}]
    score = task.score(sample, first)
    assert (score["success"], score["sketches"]) == (0, (len(answer) - 2) / (len(answer) - 1))


def test_the_place_is_read_off_the_last_sketch():
    task = SceneMoves()
    for index in range(10):
        sample = task.sample(index, "test")
        pictures = [item["image"] for item in answer_of(sample) if item["type"] == "image"]
        assert task.read_sketches(sample, pictures)[-1]["text"] == sample.meta["answer"]
    assert task.read_sketches(sample, [np.full((64, 64, 3), 127, np.uint8)])[-1]["text"] == "nowhere"


def test_no_object_moves_onto_another_or_out():
    scene = Scene.from_json(SceneMoves().sample(3).meta["scene"])
    with pytest.raises(ValueError, match="the place is taken"):
        after_moves(scene, [(0, "up")] * 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"size": 16}, "at least 32"),
        ({"least": 3, "most": 2}, "objects must be"),
        ({"most": 9}, "objects must be"),
        ({"moves": ()}, "moves must be"),
        ({"unseen_moves": (0,)}, "unseen_moves must be"),
        ({"unseen_moves": (4, 5)}, "must not be trained on"),
    ],
)
def test_bad_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        MovesConfig(**change)
    assert "\n" not in str(caught.value)
