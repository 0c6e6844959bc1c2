"""Plans in the voxel world, judged after imagining their frames."""

import numpy as np
import pytest
from unified.envs.voxel import VoxelEnv
from unified.tasks.sample import SPLITS
from unified.tasks.worlds.clips import terrain_split
from unified.tasks.worlds.lookahead import NO, YES, LookaheadConfig, WorldLookahead, post_share


def items(sample, role):
    return [item for message in sample.messages if message["role"] == role for item in message["content"]]


def test_every_action_is_answered_by_a_frame_the_last_by_a_word_too():
    sample = WorldLookahead(LookaheadConfig(size=32)).sample(0)
    kinds = [[item["type"] for item in message["content"]] for message in sample.messages]
    assert kinds[0] == ["text", "image", "action"]
    assert kinds[1:-1] == [["image"], ["action"]] * (sample.meta["steps"] - 1)
    assert kinds[-1] == ["image", "text"]
    assert items(sample, "assistant")[-1]["text"] == sample.meta["category"]


def test_both_answers_come_and_lengths_and_terrain_are_apart():
    task = WorldLookahead(LookaheadConfig(size=32))
    for split in SPLITS:
        samples = [task.sample(index, split) for index in range(8)]
        assert {sample.meta["category"] for sample in samples} == {YES, NO}
        assert {terrain_split(sample.meta["terrain_seed"]) for sample in samples} == {split}
        unseen = {sample.meta["steps"] for sample in samples} == {16}
        assert unseen == (split == "compositional")


def test_the_word_is_scored_and_so_are_frames():
    task = WorldLookahead(LookaheadConfig(size=32))
    sample = task.sample(1)
    last = sample.messages[-1]["content"]
    assert task.score(sample, last) == {"success": 1, "psnr": 100, "ssim": pytest.approx(1)}
    other = YES if sample.meta["category"] == NO else NO
    assert task.score(sample, [{"type": "text", "text": other}])["success"] == 0
    with pytest.raises(ValueError, match="an answer is a list"):
        task.score(sample, "yes")


def test_the_post_is_red():
    env = VoxelEnv(task="explore", width=64, height=64, world_size=(24, 24, 24))
    frame = env.reset(seed=0)[0]["pov"]
    assert post_share(frame) < 0.01
    assert post_share(np.full((4, 4, 3), (226, 34, 40), np.uint8)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"steps": ()}, "steps must be"),
        ({"unseen_steps": (1,)}, "unseen_steps must be"),
        ({"unseen_steps": (8,)}, "must not be trained on"),
        ({"size": 4}, "size must be"),
        ({"goal": 0}, "goal"),
    ],
)
def test_bad_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LookaheadConfig(**change)
