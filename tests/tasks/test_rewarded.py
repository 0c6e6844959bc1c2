"""Steps of tasks with their rewards."""

import pytest
import torch
from unified.tasks.worlds.rewarded import RewardedConfig, rewarded_steps

SMALL = {"episodes": 4, "size": 32, "ticks": 120}


def test_steps_of_an_episode_add_up_to_its_reward():
    """With every step kept, a task that was done has paid 1 and has one end."""
    data = rewarded_steps(RewardedConfig(task="dig_down", kept=1.0, goals=(2, 2), **SMALL), "train")
    assert data.frames.shape == (len(data), 2, 32, 32, 3)
    assert data.frames.dtype == torch.uint8
    assert set(data.rewards.tolist()) == {0.0, 0.5}
    assert int(data.ends.sum()) >= 2
    assert data.rewards.sum() >= data.ends.sum()
    assert (data.rewards[data.ends] > 0).all()
    assert data.weights.unique().tolist() == [1.0]
    following = (data.frames[1:, 0] == data.frames[:-1, 1]).flatten(1).all(1)
    assert following.sum() >= len(data) - 4, "a step begins where the one before ended"


def test_a_share_of_the_steps_without_a_reward_stands_for_all():
    config = RewardedConfig(task="reach", goals=(3, 6), **SMALL)
    data, again = (rewarded_steps(config, "train") for _ in range(2))
    assert torch.equal(data.frames, again.frames)
    assert set(data.weights[data.rewards == 0].tolist()) <= {4.0, 1.0}
    assert (data.weights[data.rewards > 0] == 1).all()
    other = rewarded_steps(config, "test")
    assert len(other) != len(data) or not torch.equal(other.frames, data.frames)


@pytest.mark.parametrize("settings", [{"task": "explore"}, {"episodes": 0}, {"kept": 0.0}, {"seed": -1}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        RewardedConfig(**settings)
