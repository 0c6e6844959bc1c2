"""The learned reward as a file and as a function, and the tasks in the dream that use it."""

import pickle
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from unified.envs.voxel import VoxelEnv
from unified.envs.world_model.read_out import (
    LearnedReward,
    ReadOutConfig,
    RewardReadOut,
    file_name,
    find_read_out,
    load_read_out,
    save_read_out,
)

IDS = {"unified/DreamReach-v0": "reach", "unified/DreamDig-v0": "dig_down"}


@pytest.fixture
def read_out():
    torch.manual_seed(0)
    return RewardReadOut(ReadOutConfig(task="reach", amount=0.5, width=4)).eval()


def test_an_event_happens_where_it_is_likelier_than_not(read_out, picture):
    previous, frame = picture(0), picture(1)
    for logits, crisp in (([2.0, -1.0], (0.5, False)), ([-0.5, 3.0], (0.0, True))):
        read_out.events.weight.data.zero_()
        read_out.events.bias.data = torch.tensor(logits)
        assert LearnedReward(read_out)(previous, {}, frame) == crisp
        expected, end = LearnedReward(read_out, expected=True)(previous, {}, frame)
        assert expected == pytest.approx(0.5 * torch.tensor(logits).sigmoid()[0].item())
        assert end == crisp[1]


def test_both_frames_count_at_any_size(read_out, picture):
    reward = LearnedReward(read_out, expected=True)
    small = reward(picture(0), {}, picture(1))[0]
    assert small != reward(picture(1), {}, picture(0))[0]
    large = [np.repeat(np.repeat(picture(seed), 2, axis=0), 2, axis=1) for seed in (0, 1)]
    assert reward(large[0], {}, large[1])[0] == pytest.approx(small, abs=1e-6)


def test_it_goes_through_a_file(read_out, picture, tmp_path):
    path = tmp_path / file_name("reach")
    save_read_out(read_out, path, {"episodes": 3})
    again = load_read_out(path)
    assert again.config == read_out.config
    frames = torch.from_numpy(np.stack([picture(0), picture(1)]))[None]
    torch.testing.assert_close(again(frames), read_out(frames), atol=5e-3, rtol=5e-3)
    assert find_read_out("reach", tmp_path) == path
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="reward_reach"):
        load_read_out(path)
    with pytest.raises(ValueError, match="train one with"):
        find_read_out("no_such_task", tmp_path)
    for settings in ({"size": 12}, {"width": 0}, {"amount": float("nan")}):
        with pytest.raises(ValueError, match="must be"):
            ReadOutConfig(**settings)


@pytest.mark.parametrize(("name", "task"), IDS.items(), ids=IDS.values())
def test_a_task_in_the_dream_starts_as_its_real_twin(assistant, name, task):
    env = gymnasium.make(name, model=assistant)
    first, _ = env.reset(seed=5)
    drawn = int(np.random.default_rng(np.random.SeedSequence(5)).integers(2**31))
    real = VoxelEnv(task=task, width=32, height=32)
    assert np.array_equal(first["pov"], real.reset(seed=drawn)[0]["pov"])
    assert env.spec.max_episode_steps == 256
    _, reward, terminated, _, _ = env.step({"forward": 1})
    function = env.unwrapped.reward_fn
    assert (reward, terminated) == function(first["pov"], {}, env.render())
    assert function.read_out.config.task == task
    rows = gymnasium.make_vec(name, num_envs=2, model=assistant)
    assert np.array_equal(rows.reset(seed=5)[0]["pov"][0], first["pov"])
    other = pickle.loads(pickle.dumps(env.unwrapped))
    assert np.array_equal(other.step({})[0]["pov"], env.step({})[0]["pov"])


def test_the_reward_beside_the_model_comes_first(assistant, read_out, tmp_path, monkeypatch):
    save_read_out(read_out, tmp_path / file_name("reach"))
    monkeypatch.setattr(assistant, "folder", tmp_path)
    env = gymnasium.make("unified/DreamReach-v0", model=assistant)
    assert env.unwrapped.reward_fn.read_out.config.width == 4
    given = gymnasium.make("unified/DreamReach-v0", model=assistant, reward_fn=lambda *_: 7.0)
    given.reset(seed=0)
    assert given.step({})[1] == 7.0


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_accepts_it_as_it_is_made(name):
    """With the shipped model."""
    env = gymnasium.make(name).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")  # the camera, in degrees
        check_env(env, skip_render_check=True)
