"""Whether single actions are obeyed: a model that knows the world obeys all, one that stands still none."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from unified.eval.measurement import Result, Run
from unified.eval.suites.scripted import branched_clips
from unified.eval.suites.single_actions import ACTIONS, NOTHING, add_single_actions, obeyed
from unified.tokenizers.action import complete

from unified.apps.assistant import Assistant
from unified.apps.demo import random_model

SIDE = 32


@dataclass(frozen=True, kw_only=True)
class Shows(Run):
    """Imagines the frames that it is given, in their order."""

    frames: list = field(default_factory=list)

    def rollout(self, first, seeds, sampler=None):
        left = iter(self.frames)

        class Shown:
            def step(self, actions):
                return np.stack([next(left) for _ in actions])

        return Shown()


@pytest.fixture(scope="module")
def assistant():
    return Assistant(*random_model(), side=SIDE)


def branches(*names, count=4):
    found = branched_clips(count, "test", SIDE, [[complete(ACTIONS[name])] for name in names])
    return [list(clips) for clips in zip(*found, strict=True)]


def test_branches_begin_alike_and_end_as_their_actions_do():
    left, right, slot, nothing = branches("yaw -10", "yaw +10", "hotbar.9", NOTHING)
    for clips in zip(left, right, slot, nothing, strict=True):
        assert all(np.array_equal(clip.frames[0], clips[0].frames[0]) for clip in clips)
        assert not np.array_equal(clips[0].frames[1], clips[1].frames[1])
        changed = (clips[2].frames[1] != clips[3].frames[1]).any(axis=(1, 2))
        assert changed.any()
        assert not changed[: SIDE // 2].any(), "the hotbar lies at the bottom"


def test_who_knows_the_world_obeys_and_who_stands_still_does_not(assistant):
    turned, nothing = branches("yaw +30", NOTHING)
    knows = Shows(assistant=assistant, count=4, frames=[clip.frames[1] for clip in turned])
    found = obeyed(knows, turned, nothing)
    assert found["frames"] == 4
    assert found["nearer"]["imagined"] == 1
    assert found["above"]["imagined"] > 20
    stands = Shows(assistant=assistant, count=4, frames=[clip.frames[1] for clip in nothing])
    found = obeyed(stands, turned, nothing)
    assert found["nearer"]["imagined"] == 0
    assert found["above"]["imagined"] == 0
    assert obeyed(stands, nothing, nothing)["frames"] == 0, "where an action does nothing, nothing is told"


def test_the_table_has_a_line_for_every_action(assistant):
    result = Result(numbers={}, tables=[], goals=[])
    add_single_actions(Run(assistant=assistant, count=2, batch=2), result)
    (table,) = result.tables
    assert {row[0] for row in table.rows} <= set(ACTIONS) - {NOTHING}
    assert len(table.rows) >= 8
    assert all(len(row) == len(table.header) for row in table.rows)
    assert result.numbers["single_actions"].keys() == set(ACTIONS) - {NOTHING}
