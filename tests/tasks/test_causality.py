"""Every task whose words follow from its sketches: another sample's sketches make the words wrong."""

import numpy as np
import pytest
from unified.tasks.causality import LEAST_DROP, other_of, sketch_effect, sketches_of, task_effect
from unified.tasks.registry import TASKS, make

READ = [name for name, task in TASKS.items() if hasattr(task, "read_sketches")]


def test_there_are_such_tasks():
    assert set(READ) >= {"maze_fill", "maze_path", "scene_moves", "world_lookahead"}


@pytest.mark.parametrize("name", READ)
def test_words_follow_from_the_sketches(name):
    task = make(name)
    effect = task_effect(task, 20)
    assert effect.own >= (0.8 if name == "world_lookahead" else 1)
    assert effect.causal
    assert effect.drop >= LEAST_DROP
    samples = [task.sample(number, "test") for number in range(20)]
    blank = [[np.full_like(sketch, 127) for sketch in sketches_of(sample)] for sample in samples]
    read = [task.read_sketches(*pair) for pair in zip(samples, blank, strict=True)]
    scores = [task.score(*pair)["success"] for pair in zip(samples, read, strict=True)]
    assert sum(scores) / 20 <= effect.own - LEAST_DROP


def test_words_that_do_without_sketches_are_found_out():
    """An answer from the label alone is as right with any sketch."""
    effect = sketch_effect(make("maze_fill"), lambda sample, shown: sample.messages[-1]["content"], 4)
    assert (effect.own, effect.other, effect.drop, effect.causal) == (1, 1, 0, False)


def test_another_sample_has_the_same_size_if_there_is_one():
    task = make("maze_fill")
    samples = [task.sample(number) for number in range(30)]
    for number, sample in enumerate(samples):
        other = other_of(samples, number)
        assert other is not sample
        alike = [one for one in samples if one is not sample and one.meta["size"] == sample.meta["size"]]
        assert not alike or other.meta["size"] == sample.meta["size"]
    with pytest.raises(ValueError, match="at least 2"):
        sketch_effect(task, lambda sample, shown: [], 1)
