"""Stable-Baselines3 on the environments, unchanged: its checker, its vector interface, PPO and DQN."""

import warnings

import gymnasium
import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="needs Stable-Baselines3, the extra sb3")

from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor
from unified.envs.sb3 import SB3VecEnv
from unified.envs.voxel import VoxelEnv
from unified.envs.world_model import WorldModelEnv, WorldModelVectorEnv
from unified.envs.wrappers import DiscreteActions, FrameSkip, MultiDiscreteActions, PixelsOnly

from unified.apps.assistant import Assistant
from unified.apps.demo import random_model

SMALL = {"width": 40, "height": 40, "world_size": (32, 32, 32)}
FRAME = np.full((40, 40, 3), 120, np.uint8)


@pytest.fixture(scope="module")
def assistant():
    return Assistant(*random_model(), side=40)


@pytest.fixture(params=["voxel", "world model"])
def env(request, assistant):
    made = VoxelEnv(**SMALL) if request.param == "voxel" else WorldModelEnv(assistant, FRAME)
    return PixelsOnly(made)


@pytest.mark.parametrize(
    "wrap", [DiscreteActions, MultiDiscreteActions, lambda env: FrameSkip(DiscreteActions(env), 2)]
)
def test_its_checker_accepts_the_wrapped_environments(env, wrap):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(wrap(env))


def ends(previous, action, frame):
    """A row ends, by success, when it attacks."""
    return 1.0, bool(action["attack"])


@pytest.mark.parametrize("mode", ["SameStep", "NextStep", "Disabled"])
def test_rows_are_what_its_own_vector_environment_shows(assistant, mode):
    settings = {"size": (40, 40), "max_steps": 4, "reward_fn": ends}
    rows = WorldModelVectorEnv(2, assistant, FRAME, autoreset_mode=mode, **settings)
    ours = SB3VecEnv(DiscreteActions.of_rows(PixelsOnly.of_rows(rows)))
    theirs = DummyVecEnv(
        [lambda: DiscreteActions(PixelsOnly(WorldModelEnv(assistant, FRAME, **settings))) for _ in range(2)]
    )
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    for vector in (ours, theirs):
        vector.seed(3)
    assert np.array_equal(ours.reset(), theirs.reset())
    ended = 0
    for step in range(7):
        actions = np.array([1, 10 if step == 1 else 7])  # the second row attacks once
        found, expected = ours.step(actions), theirs.step(actions)
        assert np.abs(found[0].astype(int) - expected[0]).max() <= 1
        assert np.array_equal(found[1], expected[1])
        assert found[1].dtype == expected[1].dtype
        assert np.array_equal(found[2], expected[2])
        for one, other in zip(found[3], expected[3], strict=True):
            assert one.keys() == other.keys()
            assert np.array_equal(one["codes"], other["codes"])
            assert one["TimeLimit.truncated"] == other["TimeLimit.truncated"]
            if "terminal_observation" in other:
                ended += 1
                apart = one["terminal_observation"].astype(int) - other["terminal_observation"]
                assert np.abs(apart).max() <= 1
        assert [sorted(info) for info in ours.reset_infos] == [sorted(info) for info in theirs.reset_infos]
    assert ended == 3
    assert ours.get_attr("num_envs") == [2, 2]
    assert ours.env_is_wrapped(PixelsOnly) == [False, False]
    assert ours.render().shape[2] == 3
    ours.close()
    assert rows.closed


def test_dictionaries_of_actions_are_refused(assistant):
    with pytest.raises(ValueError, match="DiscreteActions"):
        SB3VecEnv(WorldModelVectorEnv(1, assistant, FRAME))


def vector(assistant, wrap):
    rows = WorldModelVectorEnv(
        2, assistant, FRAME, size=(40, 40), max_steps=3, reward_fn=ends, autoreset_mode="SameStep"
    )
    return VecMonitor(SB3VecEnv(wrap.of_rows(PixelsOnly.of_rows(rows))))


def test_ppo_learns_in_the_dream_unchanged(assistant):
    agent = PPO("CnnPolicy", vector(assistant, MultiDiscreteActions), n_steps=4, batch_size=4, n_epochs=1)
    agent.learn(8)
    assert agent.num_timesteps == 8
    assert len(agent.ep_info_buffer) >= 2  # an episode lasts three steps at most


def test_dqn_learns_in_the_dream_and_in_the_world_unchanged(assistant):
    world = DiscreteActions(PixelsOnly(gymnasium.make("unified/VoxelReach-v0", **SMALL)))
    for env in (vector(assistant, DiscreteActions), world):
        agent = DQN("CnnPolicy", env, buffer_size=50, learning_starts=4, train_freq=2, batch_size=4)
        agent.learn(8)
        assert agent.num_timesteps == 8
