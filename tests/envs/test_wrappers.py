"""Wrappers for usual agents, on the voxel world: one environment and rows of them alike."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FrameStackObservation, GrayscaleObservation
from unified.envs.voxel import VoxelEnv
from unified.envs.wrappers import (
    VPT_GROUPS,
    WALKING,
    DiscreteActions,
    FourTuple,
    FrameSkip,
    MultiDiscreteActions,
    PixelsOnly,
    WithoutEscape,
)

SMALL = {"width": 32, "height": 24, "world_size": (32, 32, 32)}


class Told(gymnasium.ActionWrapper):
    """Keeps the latest action."""

    def action(self, action):
        self.latest = action
        return action


@pytest.fixture
def env():
    return Told(VoxelEnv(**SMALL))


@pytest.fixture(scope="module")
def rows():
    return gymnasium.vector.SyncVectorEnv(
        [lambda: VoxelEnv(**SMALL, max_steps=3)] * 2, autoreset_mode="SameStep"
    )


@pytest.mark.parametrize(
    "wrap",
    [
        PixelsOnly,
        DiscreteActions,
        MultiDiscreteActions,
        FrameSkip,
        WithoutEscape,
        lambda env: FrameStackObservation(GrayscaleObservation(PixelsOnly(env)), 4),
        lambda env: FrameSkip(DiscreteActions(PixelsOnly(WithoutEscape(env))), 2),
    ],
)
def test_gymnasium_accepts_them(wrap):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a check of wrappers, and a camera in degrees
        check_env(wrap(VoxelEnv(**SMALL)), skip_render_check=True)


def test_pixels_go_through_gymnasiums_wrappers(env):
    stacked = FrameStackObservation(GrayscaleObservation(PixelsOnly(env)), 3)
    assert stacked.reset(seed=0)[0].shape == (3, 24, 32)
    with pytest.raises(ValueError, match="pov"):
        PixelsOnly(PixelsOnly(env))


def test_pixels_are_resized(env):
    pytest.importorskip("cv2", reason="gymnasium resizes with OpenCV")
    small = gymnasium.wrappers.ResizeObservation(PixelsOnly(env), (12, 16))
    assert small.reset(seed=0)[0].shape == (12, 16, 3)


def test_numbers_stand_for_a_table_of_actions(env):
    numbered = DiscreteActions(env)
    numbered.reset(seed=0)
    assert numbered.action_space == spaces.Discrete(len(WALKING))
    numbered.step(7)
    assert env.latest["camera"].tolist() == [0, 15]
    assert not any(env.latest[name] for name in env.latest if name != "camera")
    numbered.step(np.int64(2))
    assert {name for name in env.latest if name != "camera" and env.latest[name]} == {"forward", "jump"}
    for wrong in (-1, 12, 1.0, [0, 1], "forward"):
        with pytest.raises(ValueError, match="whole number of 0 to 11"):
            numbered.step(wrong)
    with pytest.raises(ValueError, match="at least one"):
        DiscreteActions(env, [])
    with pytest.raises(ValueError, match="unknown"):
        DiscreteActions(env, [{"fly": 1}])


def test_factored_actions_are_vpts(env):
    factored = MultiDiscreteActions(env)
    factored.reset(seed=0)
    assert factored.action_space.nvec.tolist() == [10, 3, 3, 3, 2, 2, 2, 2, 2, 11, 11]
    still = [0] * len(VPT_GROUPS) + [5, 5]
    factored.step(still)
    assert all(not np.any(value) for value in env.latest.values())
    # VPT's centres: mu-law with mu 10 over +-10 degrees in eleven bins.
    centres = []
    for number in range(11):
        factored.step([3, 2, 1, 1, 0, 0, 1, 1, 0, number, 10 - number])
        centres.append(env.latest["camera"][0])
        assert env.latest["camera"][1] == pytest.approx(-centres[-1])
    pressed = {name for name in env.latest if name != "camera" and env.latest[name]}
    assert pressed == {"hotbar.3", "back", "left", "sprint", "attack", "jump"}
    expected = [10 * (11 ** (k / 5) - 1) / 10 for k in range(6)]
    assert np.allclose(centres[5:], expected, atol=1e-4)
    for wrong in (still[:-1], [*still[:-1], 11], [*still[:-1], -1], np.array(still, float)):
        with pytest.raises(ValueError, match="whole numbers"):
            factored.step(wrong)


def test_a_skip_repeats_actions_and_adds_rewards():
    class Counting(gymnasium.Env):
        observation_space, action_space = spaces.Discrete(100), spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.count = 0
            return 0, {}

        def step(self, action):
            self.count += 1
            return self.count, float(self.count), self.count == 6, False, {"count": self.count}

    env = FrameSkip(Counting(), 4)
    env.reset()
    assert env.step(0) == (4, 10.0, False, False, {"count": 4})
    assert env.step(0) == (6, 11.0, True, False, {"count": 6})
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match="skip"):
            FrameSkip(Counting(), wrong)


def test_without_escape_nobody_leaves():
    told = Told(VoxelEnv(**SMALL, escape_ends=True))
    env = WithoutEscape(told)
    assert "ESC" not in env.action_space.spaces
    env.reset(seed=0)
    assert env.step({"ESC": 1, "forward": 1})[2] is False
    assert told.latest == {"ESC": 0, "forward": 1}


def test_minerls_habits():
    env = VoxelEnv(**SMALL, escape_ends=True)
    assert env.action_space.noop() in env.action_space
    env.action_space.seed(0)
    samples = [env.action_space.sample() for _ in range(40)]
    assert all(sample in env.action_space and sample["ESC"] == 0 for sample in samples)
    assert any(sample["attack"] for sample in samples)


def test_code_that_expects_four_values_runs():
    old = FourTuple(VoxelEnv(**SMALL, max_steps=3))
    old.seed(7)
    first = old.reset()
    assert np.array_equal(first["pov"], VoxelEnv(**SMALL).reset(seed=7)[0]["pov"])
    done, steps = False, 0
    while not done:
        action = old.action_space.noop()
        action["forward"] = 1
        observation, reward, done, info = old.step(action)
        steps += 1
    assert (steps, reward, info["TimeLimit.truncated"]) == (3, 0.0, True)
    assert observation["pov"].shape == old.observation_space["pov"].shape
    assert old.render(mode="rgb_array") is None
    assert not np.array_equal(old.reset()["pov"], first["pov"]), "the seed counts once"


def test_rows_are_wrapped_like_single_environments(rows, env):
    wrapped = DiscreteActions.of_rows(PixelsOnly.of_rows(rows))
    assert wrapped.single_action_space == spaces.Discrete(12)
    assert wrapped.action_space.shape == (2,)
    pixels, _ = wrapped.reset(seed=0)
    assert pixels in wrapped.observation_space
    single = DiscreteActions(PixelsOnly(env))
    assert np.array_equal(single.reset(seed=0)[0], pixels[0])
    for step in range(3):
        before = pixels
        pixels, _, _, truncations, infos = wrapped.step(np.array([7, 1]))
        expected = single.step(7)[0]
        shown = infos["final_obs"][0] if step == 2 else pixels[0]
        assert np.array_equal(shown, expected)
        assert not np.array_equal(before[0], pixels[0])
    assert truncations.all()
    with pytest.raises(ValueError, match="2 rows"):
        wrapped.step([1])
    factored = MultiDiscreteActions.of_rows(rows)
    assert factored.action_space.shape == (2, 11)
    factored.reset(seed=0)
    factored.step(factored.action_space.sample())


def test_actions_of_rows_have_no_escape_and_a_noop():
    envs = gymnasium.make_vec("unified/Voxel-v0", num_envs=3, **SMALL)
    envs.action_space.seed(0)
    samples = [envs.action_space.sample() for _ in range(20)]
    assert not any(sample["ESC"].any() for sample in samples)
    assert any(sample["jump"].any() for sample in samples)
    assert all(sample in envs.action_space for sample in samples)
    noop = envs.action_space.noop()
    assert noop in envs.action_space
    assert not any(np.asarray(value).any() for value in noop.values())
    envs.reset(seed=0)
    envs.step(noop)
    envs.close()
