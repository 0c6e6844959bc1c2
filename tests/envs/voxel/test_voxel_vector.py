"""Rows of voxel worlds in one process: gymnasium's vector interface, and that a row is a single world."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from unified.envs.registration import VOXEL_IDS
from unified.envs.voxel import VoxelEnv, VoxelVectorEnv

SMALL = {"width": 32, "height": 24, "world_size": (32, 32, 32)}


@pytest.mark.parametrize("name", VOXEL_IDS)
def test_gymnasium_accepts_every_id_without_arguments(name):
    env = gymnasium.make(name)
    assert env.spec.max_episode_steps == 2400
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a camera that is not normalised
        check_env(env.unwrapped, skip_render_check=True)


def test_make_vec_uses_one_process():
    rows = gymnasium.make_vec("unified/VoxelReach-v0", num_envs=2, **SMALL, max_episode_steps=7)
    assert isinstance(rows, VoxelVectorEnv)
    assert rows.episodes.config.max_steps == 7
    assert rows.episodes.config.task == "reach"
    assert gymnasium.make_vec("unified/Voxel-v0", num_envs=1, max_steps=5).episodes.config.max_steps == 5
    assert (
        gymnasium.make_vec("unified/Voxel-v0", 1, max_episode_steps=-1, max_steps=0).episodes.config.max_steps
        == 0
    )


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_rows_are_what_single_worlds_are(mode):
    settings = {**SMALL, "max_steps": 6, "task": "dig_down", "goal": 1}
    singles = SyncVectorEnv([lambda: VoxelEnv(**settings)] * 3, autoreset_mode=mode)
    rows = VoxelVectorEnv(3, **settings, autoreset_mode=mode)
    expected, found = singles.reset(seed=4), rows.reset(seed=4)
    assert np.array_equal(expected[0]["pov"], found[0]["pov"])
    assert found[0] in rows.observation_space
    singles.action_space.seed(1)
    for _ in range(14):
        actions = singles.action_space.sample()
        actions["camera"] = actions["camera"] / 9
        expected, found = singles.step(actions), rows.step(actions)
        for one, other in zip(expected[:4], found[:4], strict=True):
            assert (
                all(np.array_equal(one[k], other[k]) for k in one)
                if isinstance(one, dict)
                else (one == other).all()
            )
        assert expected[4].keys() == found[4].keys()
        if "final_obs" in expected[4]:
            for one, other in zip(expected[4]["final_obs"], found[4]["final_obs"], strict=True):
                assert one is None or np.array_equal(one["pov"], other["pov"])
        done = expected[2] | expected[3]
        if mode is AutoresetMode.DISABLED and done.any():
            with pytest.raises(ResetNeeded):
                rows.step(actions)
            expected, found = (side.reset(options={"reset_mask": done}) for side in (singles, rows))
            assert np.array_equal(expected[0]["pov"], found[0]["pov"])
    for one, other in zip(singles.envs, rows.get_states(), strict=True):
        assert np.array_equal(one.get_state()["blocks"], other["blocks"])
        assert np.array_equal(one.get_state()["body"], other["body"])


def test_what_is_dug_in_one_world_is_there_in_no_other():
    rows = VoxelVectorEnv(2, **SMALL)
    rows.reset(options={"terrain_seed": 3}, seed=[1, 1])
    still, down = {}, {"attack": 1, "camera": [30, 0]}
    for _ in range(40):
        pov = rows.step([still, down])[0]["pov"]
    first, second = (state["blocks"] for state in rows.get_states())
    assert (first != second).any()
    assert not np.array_equal(pov[0], pov[1])


def test_states_and_bad_input():
    rows = VoxelVectorEnv(2, **SMALL, render_mode="rgb_array")
    assert rows.render() is None
    with pytest.raises(ResetNeeded):
        rows.step([{}, {}])
    rows.reset(seed=0)
    rows.step([{"forward": 1}] * 2)
    state = rows.get_states()[1]
    shown = rows.render()
    again, _ = rows.reset(options={"state": state, "reset_mask": np.array([True, False])})
    assert np.array_equal(again["pov"][0], shown[1])
    for call in (
        lambda: rows.step([{}, {"fly": 1}]),
        lambda: rows.reset(options={"speed": 1}),
        lambda: rows.reset(options={"state": {}}),
        lambda: VoxelVectorEnv(0),
        lambda: VoxelVectorEnv(1, speed=1),
    ):
        with pytest.raises(ValueError, match=r"."):
            call()
    assert np.array_equal(rows.render()[1], shown[1])
    rows.step([{}, {}])
    rows.close()
    for call in (rows.reset, lambda: rows.step([{}, {}])):
        with pytest.raises(ClosedEnvironmentError):
            call()
