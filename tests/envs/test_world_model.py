"""The model as an environment: gymnasium's rules, seeds, windows, bad input. On a tiny random model."""

import warnings

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from unified.envs.recordings import play
from unified.envs.world_model import WorldModelEnv

from unified.apps.assistant import Assistant
from unified.apps.demo import random_model


@pytest.fixture(scope="module")
def assistant():
    model, processor = random_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # so that what it has read shows in what it draws
    return Assistant(model, processor, side=32)


@pytest.fixture
def env(assistant):
    return WorldModelEnv(assistant, picture())


def picture(seed=0, side=32):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_gymnasium_accepts_it(assistant):
    env = WorldModelEnv(assistant, picture(), temperature=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a camera that is not normalised
        check_env(env, skip_render_check=True)


def test_it_plays_like_any_other_environment(env):
    actions = [{"forward": 1}, {"camera": [0, 10]}, {"attack": 1}]
    frames = play(env, actions, seed=3)
    assert frames.shape == (4, 32, 32, 3)
    assert np.array_equal(frames[0], picture())
    assert np.array_equal(frames, play(env, actions, seed=3))
    assert np.array_equal(env.render(), frames[-1])
    other = play(env, [{"back": 1}, *actions[1:]], seed=3)
    assert not np.array_equal(frames[1], other[1]), "actions matter"


def test_the_seed_matters_only_with_temperature(assistant):
    actions = [{"forward": 1}] * 3
    likeliest, drawn = (
        WorldModelEnv(assistant, picture()),
        WorldModelEnv(assistant, picture(), temperature=1.0),
    )
    assert np.array_equal(play(likeliest, actions, seed=1), play(likeliest, actions, seed=2))
    assert not np.array_equal(play(drawn, actions, seed=1), play(drawn, actions, seed=2))


def test_it_is_the_imagination_of_the_assistant(env, assistant):
    actions = [{"forward": 1}, {"jump": 1}]
    assert np.array_equal(play(env, actions, seed=0)[1:], assistant.imagine(picture(), actions))


def test_an_episode_can_start_from_several_known_frames(env):
    options = {"frames": [picture(0), picture(1)], "actions": [{"forward": 1}]}
    observation, info = env.reset(options=options)
    assert np.array_equal(observation["pov"], picture(1))
    assert info == {"known_frames": 2}
    longer = env.step({"forward": 1})[0]["pov"]
    env.reset(options={"frame": picture(1)})
    assert not np.array_equal(longer, env.step({"forward": 1})[0]["pov"]), "the first frame is remembered"


def test_the_memory_of_a_long_episode_stays_small(env):
    env.reset(seed=0)
    held = []
    for _ in range(30):
        env.step({"forward": 1})
        held.append(env._rollout.session.context.cache.length)
    assert held[10:] == [held[10]] * 20


def test_episodes_end_by_their_length(assistant):
    env = WorldModelEnv(assistant, picture(), max_steps=2)
    env.reset()
    assert env.step({})[2:4] == (False, False)
    assert env.step({})[2:4] == (False, True)
    with pytest.raises(ResetNeeded):
        env.step({})
    env.reset()
    env.step({})


def test_a_bad_action_changes_nothing(env):
    actions = [{"forward": 1}, {"left": 1}]
    expected = play(env, actions, seed=0)
    env.reset(seed=0)
    for action, frame in zip(actions, expected[1:], strict=True):
        for bad in ({"fly": 1}, {"forward": 2}, {"camera": [0, 500]}, {"camera": [0, float("nan")]}):
            with pytest.raises(ValueError, match=r"unknown|must") as refusal:
                env.step(bad)
            assert "\n" not in str(refusal.value)
        assert np.array_equal(env.step(action)[0]["pov"], frame)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": []}, "at least one frame"),
        ({"frames": [picture()] * 2}, "n - 1 actions"),
        ({"frame": picture(), "frames": [picture()]}, "both"),
        ({"speed": 3}, "unknown option 'speed'"),
        ({"frame": np.zeros((32, 64, 3), np.uint8)}, r"shape \[32, 32, 3\]"),
        ({"frame": "cat"}, "no such file"),
    ],
)
def test_bad_starts_are_refused(env, options, message):
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)


def test_bad_settings_are_refused(assistant):
    for settings in ({"window": 0}, {"max_steps": -1}, {"size": (30, 30)}, {"render_mode": "human"}):
        with pytest.raises(ValueError):  # noqa: PT011 - each names its own setting
            WorldModelEnv(assistant, picture(), **settings)
    with pytest.raises(ValueError, match="no frame to start from"):
        WorldModelEnv(assistant).reset()
    with pytest.raises(ResetNeeded):
        WorldModelEnv(assistant, picture()).step({})
