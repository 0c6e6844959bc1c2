"""Rows of one model: gymnasium's vector interface, and that a row is what a single environment is."""

import gc
import weakref

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from unified.envs.world_model import WorldModelEnv, WorldModelVectorEnv

from unified.apps.assistant import Assistant
from unified.apps.demo import random_model


def reward_fn(previous, action, frame):
    """Ends a row whenever it jumps."""
    return float(frame.mean()), bool(action["jump"])


@pytest.fixture
def make(assistant, picture):
    def made(count=3, **settings):
        start = [picture(0), picture(1), picture(2)]
        return WorldModelVectorEnv(
            count, assistant, start, reward_fn=reward_fn, **{"size": (32, 32), **settings}
        )

    return made


def test_make_vec_has_one_model_for_all_rows(assistant):
    rows = gymnasium.make_vec("unified/WorldModel-v0", num_envs=3, model=assistant)
    assert isinstance(rows, WorldModelVectorEnv)
    assert rows.episodes.assistant is assistant
    assert rows.num_envs == 3
    assert rows.spec.id == "unified/WorldModel-v0"
    assert rows.episodes.config.max_steps == 256
    assert rows.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    for given, steps in ((5, 5), (-1, 0)):
        rows = gymnasium.make_vec("unified/WorldModel-v0", 1, model=assistant, max_episode_steps=given)
        assert rows.episodes.config.max_steps == steps


def test_spaces_and_types(make):
    rows = make()
    single = rows.single_observation_space["pov"]
    assert rows.observation_space["pov"].shape == (3, *single.shape)
    observations, infos = rows.reset(seed=0)
    assert observations in rows.observation_space
    assert infos["known_frames"].tolist() == [1, 1, 1]
    rows.action_space.seed(0)
    actions = rows.action_space.sample()
    assert actions in rows.action_space
    observations, rewards, terminations, truncations, infos = rows.step(actions)
    assert observations in rows.observation_space
    assert (rewards.dtype, terminations.dtype, truncations.dtype) == (np.float64, np.bool_, np.bool_)
    assert rewards.shape == terminations.shape == truncations.shape == (3,)
    assert infos["codes"].shape == (3, 4, 4)
    assert infos["log_prob"].shape == infos["entropy"].shape == infos["_entropy"].shape == (3,)
    frames = rows.render()
    assert np.array_equal(np.stack(frames), observations["pov"])
    assert make(render_mode=None).render() is None


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_rows_are_what_single_environments_are(make, assistant, picture, walk, mode):
    """The same calls to gymnasium's own vector environment of single ones, which end at other steps."""
    settings = {"size": (32, 32), "max_steps": 4}
    start = [picture(0), picture(1), picture(2)]
    singles = SyncVectorEnv(
        [lambda: WorldModelEnv(assistant, start, reward_fn=reward_fn, **settings)] * 3, autoreset_mode=mode
    )
    rows = make(autoreset_mode=mode, max_steps=4)
    expected, found = singles.reset(seed=[5, 6, 9]), rows.reset(seed=[5, 6, 9])
    assert np.array_equal(expected[0]["pov"], found[0]["pov"])
    assert rows.np_random_seed == singles.np_random_seed == (5, 6, 9)
    for step in range(9):
        given = [{**action, "camera": [0, 3]} for action in (walk[step], walk[step + 1], walk[step + 2])]
        actions = {
            name: np.zeros((3,), int) for name in singles.single_action_space.spaces if name != "camera"
        }
        actions["camera"] = np.array([action.pop("camera") for action in given], np.float32)
        for row, action in enumerate(given):
            for name, value in action.items():
                actions[name][row] = value
        expected, found = singles.step(actions), rows.step(actions)
        same_results(expected, found)
        done = expected[2] | expected[3]
        if mode is AutoresetMode.DISABLED and done.any():
            with pytest.raises(ResetNeeded):
                rows.step(actions)
            mask = {"reset_mask": done}
            expected, found = singles.reset(options=dict(mask)), rows.reset(options=mask)
            assert np.abs(expected[0]["pov"].astype(int) - found[0]["pov"]).max() <= 1
            assert set(mask) == {"reset_mask"}, "the caller's options are left alone"
    states = [env.get_wrapper_attr("get_state")() for env in singles.envs]
    assert [state.rng for state in states] == [state.rng for state in rows.get_states()]


def same_results(expected, found):
    """Codes, ends and masks equal; pixels of a batch may be rounded after other sums."""
    assert np.abs(expected[0]["pov"].astype(int) - found[0]["pov"]).max() <= 1
    assert np.abs(expected[1] - found[1]).max() < 1
    assert np.array_equal(expected[2], found[2])
    assert np.array_equal(expected[3], found[3])
    assert expected[4].keys() == found[4].keys()
    for name, values in expected[4].items():
        if name in ("codes", "steps", "known_frames") or name.startswith("_"):
            assert np.array_equal(values, found[4][name]), name
        if name == "final_info":
            assert np.array_equal(values["codes"], found[4][name]["codes"])
    if "final_obs" in expected[4]:
        for one, other in zip(expected[4]["final_obs"], found[4]["final_obs"], strict=True):
            assert (one is None) == (other is None)
            assert one is None or np.abs(one["pov"].astype(int) - other["pov"]).max() <= 1


def test_a_mask_resets_some_rows_only(make, walk):
    rows = make()
    first, _ = rows.reset(seed=0)
    stepped = rows.step([walk[0]] * 3)[0]
    again, infos = rows.reset(seed=[0, None, None], options={"reset_mask": np.array([True, False, False])})
    assert np.array_equal(again["pov"][0], first["pov"][0])
    assert np.array_equal(again["pov"][1:], stepped["pov"][1:])
    assert infos["_known_frames"].tolist() == [True, False, False]
    for mask, error in (
        ([True, False, False], TypeError),
        (np.array([1, 0, 0]), TypeError),
        (np.array([True]), ValueError),
        (np.zeros(3, dtype=bool), ValueError),
    ):
        with pytest.raises(error, match="reset_mask"):
            rows.reset(options={"reset_mask": mask})


def test_states_move_between_rows_and_single_environments(make, assistant, walk):
    rows = make()
    rows.reset(seed=0)
    for step in range(5):
        rows.step([walk[step]] * 3)
    states = rows.get_states()
    one = WorldModelEnv(assistant, size=(32, 32))
    one.set_state(states[2])
    expected = [rows.step([walk[step]] * 3)[4]["codes"] for step in range(5, 8)]
    assert all(np.array_equal(one.step(walk[5 + k])[4]["codes"], expected[k][2]) for k in range(3))
    rows.set_states([states[1], states[1]], rows=[0, 2])
    found = rows.step([walk[5]] * 3)[4]["codes"]
    assert np.array_equal(found[0], expected[0][1])
    assert np.array_equal(found[2], expected[0][1])
    with pytest.raises(ValueError, match="3 rows need"):
        rows.set_states(states[:2])
    for wrong in ([3], [-1]):
        with pytest.raises(ValueError, match="numbers of 0 to 2"):
            rows.set_states(states[:1], wrong)
    with pytest.raises(ValueError, match="different"):
        rows.set_states(states[:2], [0, 0])


def test_bad_input_changes_nothing(make, walk):
    rows = make(2)
    with pytest.raises(ResetNeeded):
        rows.step([{}, {}])
    rows.reset(seed=1)
    before = rows.get_states()
    bad = (
        ([{}], "2 dictionaries"),
        ({"forward": np.array([1])}, "2 rows"),
        ({"forward": 1}, "2 rows"),
        ({"fly": np.array([0, 1])}, "unknown"),
        ([{}, {"forward": 2}], "must be 0 or 1"),
        ([{}, None], "row 1"),
    )
    for actions, message in bad:
        with pytest.raises(ValueError, match=message):
            rows.step(actions)
    for options in ({"frames": []}, {"speed": 1}):
        with pytest.raises(ValueError, match=r"."):
            rows.reset(seed=3, options=options)
    for seed in ([1, 2, 3], 1.5, "7", [1, 2.5], -3, [True, 0]):
        with pytest.raises(ValueError, match="seed"):
            rows.reset(seed=seed)
    after = rows.get_states()
    assert [state.rng for state in before] == [state.rng for state in after]
    assert all(one.dream is other.dream for one, other in zip(before, after, strict=True))
    rows.step([{}, walk[0]])


def test_a_reward_that_fails_in_one_row_changes_none(assistant, picture, walk):
    broken = []

    def reward_fn(previous, action, frame):
        if action["back"] in broken:
            raise ZeroDivisionError
        return 1.0

    rows = WorldModelVectorEnv(2, assistant, picture(), reward_fn=reward_fn)
    rows.reset(seed=3)
    rows.step([walk[0], walk[1]])
    before = rows.get_states()
    broken.append(1)
    with pytest.raises(ZeroDivisionError):
        rows.step([{}, {"back": 1}])
    for one, other in zip(before, rows.get_states(), strict=True):
        assert one.frame is other.frame
        assert one.steps == other.steps
    broken.clear()
    again = rows.step([{}, {"back": 1}])[4]["codes"]
    rows.set_states(before)
    assert np.array_equal(again, rows.step([{}, {"back": 1}])[4]["codes"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "num_envs"),
        ({"autoreset_mode": "Never"}, "autoreset_mode"),
        ({"render_mode": "human"}, "render_mode"),
        ({"speed": 1}, "unknown setting"),
    ],
)
def test_bad_settings_are_refused(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_close_lets_the_model_go():
    assistant = Assistant(*random_model(), side=32)
    rows = WorldModelVectorEnv(2, assistant, np.zeros((32, 32, 3), np.uint8))
    rows.reset(seed=0)
    rows.step([{}, {}])
    model = weakref.ref(assistant.model)
    del assistant
    rows.close()
    rows.close()
    gc.collect()
    assert model() is None
    for call in (rows.reset, lambda: rows.step([{}, {}]), rows.get_states):
        with pytest.raises(ClosedEnvironmentError):
            call()
