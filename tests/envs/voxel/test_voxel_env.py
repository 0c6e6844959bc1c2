"""The environment as gymnasium and its users see it."""

import os
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from unified.envs import registration
from unified.envs.voxel import VoxelConfig, VoxelEnv
from unified.envs.voxel.actions import no_op
from unified.envs.voxel.state import state_from_json, state_to_json

SMALL = {"width": 32, "height": 24, "world_size": (32, 32, 32)}
KEYS = {
    "ESC", "attack", "back", "camera", "drop", "forward", *(f"hotbar.{n}" for n in range(1, 10)), "inventory",
    "jump", "left", "pickItem", "right", "sneak", "sprint", "swapHands", "use",
}  # fmt: skip


def same(first, second):
    """Whether two nested structures of dictionaries, lists and arrays are equal."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second)
    return first == second


def random_actions(count, seed=0):
    space = VoxelEnv(**SMALL).action_space
    space.seed(seed)
    actions = [space.sample() for _ in range(count)]
    return [{**action, "ESC": 0, "camera": action["camera"] / 9} for action in actions]


@pytest.fixture
def env():
    env = VoxelEnv(**SMALL)
    env.reset(seed=1)
    return env


def test_action_space_is_minerls(env):
    assert set(env.action_space.spaces) == KEYS
    assert len(KEYS) == 24
    camera = env.action_space["camera"]
    assert camera.shape == (2,)
    assert camera.dtype == np.float32
    assert camera.low.tolist() == [-180, -180]
    assert all(env.action_space[key] == gymnasium.spaces.Discrete(2) for key in KEYS - {"camera"})
    assert no_op() in env.action_space


def test_check_env_passes(monkeypatch):
    """The one warning left is advice to normalise actions; MineRL's camera is in degrees."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gymnasium.make("unified/Voxel-v0", **SMALL, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        check_env(env.unwrapped)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (8, 8), (97, 31), (160, 90)])
def test_pov_of_any_size(width, height):
    env = VoxelEnv(**{**SMALL, "width": width, "height": height})
    observation, _ = env.reset(seed=0)
    assert observation["pov"].shape == (height, width, 3)
    assert observation in env.observation_space
    assert len(np.unique(observation["pov"].reshape(-1, 3), axis=0)) > 20


def test_registered_names_make_environments_and_registering_twice_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registration.register_envs()
        registration.register_envs()
    for name, task in registration.VOXEL_IDS.items():
        assert gymnasium.make(name, **SMALL).unwrapped.config.task == task


def test_make_works_without_an_import_and_the_same_seed_gives_the_same_bytes_in_another_process():
    script = (
        "import gymnasium, hashlib, warnings; warnings.simplefilter('ignore');"
        "env = gymnasium.make('unified:unified/Voxel-v0', width=32, height=24,"
        " world_size=(32, 32, 32)); observation, info = env.reset(seed=7);"
        "state = env.unwrapped.get_state();"
        "print(hashlib.sha256(observation['pov'].tobytes() + state['blocks'].tobytes()).hexdigest())"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1
    assert len(prints.pop().strip()) == 64


def test_seeds_and_terrain_seeds_decide_the_world(env):
    worlds = []
    for options in ({}, {"terrain_seed": 5}, {"terrain_seed": 6}):
        for _ in range(2):
            env.reset(seed=3, options=options)
            worlds.append(env.get_state()["blocks"])
    assert np.array_equal(worlds[0], worlds[1])
    assert np.array_equal(worlds[2], worlds[3])
    assert not np.array_equal(worlds[0], worlds[2])
    assert not np.array_equal(worlds[2], worlds[4])


@pytest.mark.parametrize("task", ["explore", "reach", "collect_logs", "dig_down", "follow_path"])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_restored_state_goes_on_bit_for_bit(task, as_json):
    env = VoxelEnv(**SMALL, task=task)
    env.reset(seed=11)
    actions = random_actions(60)
    for action in actions[:30]:
        env.step(action)
    state = env.get_state()
    expected = [env.step(action) for action in actions[30:]]
    if as_json:
        state = state_from_json(state_to_json(state))
    other = VoxelEnv(**SMALL, task=task)
    other.reset(options={"state": state})
    again = [other.step(action) for action in actions[30:]]
    assert same([list(map(str, step[1:])) for step in expected], [list(map(str, step[1:])) for step in again])
    assert all(same(a[0], b[0]) for a, b in zip(expected, again, strict=True))
    assert same(env.get_state(), other.get_state())
    # The worlds that follow are the same as well.
    assert same(env.reset()[0], other.reset()[0])


def test_a_state_shares_no_memory_with_the_game(env):
    state = env.get_state()
    copy = env.get_state()
    env.reset(options={"state": state})
    for action in random_actions(40):
        env.step(action)
    assert same(state, copy)


@pytest.mark.parametrize(
    ("action", "named"),
    [
        ({"fly": 1}, "fly"),
        ({3: 1}, "3"),
        ({"camera": [np.nan, 0]}, "camera"),
        ({"camera": [np.inf, 0]}, "camera"),
        ({"camera": [0, 181]}, "camera"),
        ({"camera": [0, 0, 0]}, "camera"),
        ({"camera": 1.0}, "camera"),
        ({"camera": "left"}, "camera"),
        ({"camera": None}, "camera"),
        ({"forward": 2}, "forward"),
        ({"forward": np.nan}, "forward"),
        ({"jump": [1, 0]}, "jump"),
        ({"jump": "1"}, "jump"),
        ({"attack": None}, "attack"),
        ([1, 2], "action"),
        (None, "action"),
    ],
)
def test_bad_actions_are_refused_in_one_line_and_change_nothing(env, action, named):
    env.step({"forward": 1})
    before = env.get_state()
    with pytest.raises(ValueError, match=named) as caught:
        env.step(action)
    assert "\n" not in str(caught.value)
    assert same(before, env.get_state())


def test_missing_keys_are_not_pressed(env):
    state = env.get_state()
    short, *_ = env.step({"forward": 1})
    env.reset(options={"state": state})
    full, *_ = env.step({**no_op(), "forward": np.array(1)})
    assert same(short, full)


BAD_STATES = {
    "not a dictionary": lambda state: 5,
    "a part is missing": lambda state: {key: value for key, value in state.items() if key != "body"},
    "an unknown part": lambda state: {**state, "extra": 1},
    "an unknown block": lambda state: {**state, "blocks": np.full_like(state["blocks"], 77)},
    "another size": lambda state: {**state, "blocks": state["blocks"][:-1]},
    "not finite": lambda state: {**state, "body": state["body"] * np.nan},
    "outside": lambda state: {**state, "body": state["body"] + 1000},
    "inside a block": lambda state: {**state, "body": np.array([16.5, 1.0, 16.5, 0, 0, 0, 0, 0])},
    "a wrong version": lambda state: {**state, "version": 99},
    "a wrong slot": lambda state: {**state, "selected": 9},
    "too many items": lambda state: {**state, "counts": state["counts"] + 9999},
    "unknown buttons": lambda state: {**state, "hands": {**state["hands"], "held": ["fly"]}},
    "no buttons at all": lambda state: {**state, "hands": {**state["hands"], "held": [[]]}},
    "an unknown task": lambda state: {**state, "task": {"name": "win"}},
    "a wrong task": lambda state: {**state, "task": {**state["task"], "progress": 7.0}},
    "a wrong generator": lambda state: {**state, "rng": {"state": 1}},
    "no generator": lambda state: {**state, "rng": None},
}


@pytest.mark.parametrize("spoil", BAD_STATES.values(), ids=BAD_STATES.keys())
def test_wrong_states_are_refused_and_the_game_goes_on(env, spoil):
    before = env.get_state()
    with pytest.raises(ValueError, match="state") as caught:
        env.reset(seed=99, options={"state": spoil(env.get_state())})
    assert "\n" not in str(caught.value)
    assert same(before, env.get_state())
    env.step({"forward": 1})


@pytest.mark.parametrize(
    "options", [{"terrain": 1}, {"terrain_seed": -1}, {"terrain_seed": 1.5}, {"terrain_seed": True}, [1]]
)
def test_wrong_options_are_refused(env, options):
    before = env.get_state()
    with pytest.raises(ValueError, match=r"terrain_seed|options"):
        env.reset(options=options)
    assert same(before, env.get_state())


@pytest.mark.parametrize("text", ["", "5", "{}", '{"blocks": {"size": [1], "places": [], "ids": []}}'])
def test_wrong_json_is_refused(text):
    with pytest.raises(ValueError, match="JSON text of a state"):
        state_from_json(text)


@pytest.mark.parametrize(
    "settings",
    [
        {"width": 4},
        {"width": 64.0},
        {"height": True},
        {"world_size": (32, 32)},
        {"world_size": (8, 32, 32)},
        {"field_of_view": 0},
        {"reach": float("nan")},
        {"task": "win"},
        {"goal": 0},
        {"start_items": {"sword": 1}},
        {"start_items": {"bricks": -1}},
        {"colour": "red"},
        {"render_mode": "ansi"},
    ],
)
def test_wrong_settings_are_refused_by_name(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        VoxelEnv(**settings)


def test_steps_before_reset_and_after_the_end_are_refused():
    env = VoxelEnv(**SMALL, max_steps=2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step({})
    env.reset(seed=0)
    assert env.step({})[2:4] == (False, False)
    assert env.step({})[2:4] == (False, True)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step({})


def test_escape_ends_the_episode_unless_told_otherwise():
    for ends in (True, False):
        env = VoxelEnv(**SMALL, escape_ends=ends)
        env.reset(seed=0)
        assert env.step({"ESC": 1})[2] is ends


def test_info_is_plain_and_complete(env):
    _, _, _, _, info = env.step({"hotbar.2": 1})
    assert set(info["location_stats"]) == {"xpos", "ypos", "zpos", "yaw", "pitch"}
    assert info["hotbar"] == 1
    assert info["inventory"]["oak_planks"] == 16
    assert info["isGuiOpen"] == 0
    assert info["progress"] == 0.0
    assert info["success"] is False
    assert info["task"]


@pytest.mark.parametrize("kind", [gymnasium.vector.SyncVectorEnv, gymnasium.vector.AsyncVectorEnv])
def test_vector_environments(kind):
    vector = kind([lambda: gymnasium.make("unified/Voxel-v0", **SMALL, max_steps=3) for _ in range(2)])
    try:
        observations, _ = vector.reset(seed=[4, 5])
        single, _ = VoxelEnv(**SMALL).reset(seed=4)
        assert np.array_equal(observations["pov"][0], single["pov"])
        vector.action_space.seed(0)
        for _ in range(5):  # past the end, so that they restart by themselves
            observations, rewards, _, _, infos = vector.step(vector.action_space.sample())
        assert observations["pov"].shape == (2, 24, 32, 3)
        assert rewards.shape == (2,)
        assert infos["location_stats"]["xpos"].shape == (2,)
    finally:
        vector.close()


def test_human_window(monkeypatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = VoxelEnv(**SMALL, render_mode="human")
    env.reset(seed=0)
    env.step({"forward": 1})
    assert env.render() is None
    env.close()
    env.close()


def test_a_closed_world_says_so():
    env = VoxelEnv(**SMALL)
    env.reset(seed=0)
    env.close()
    env.close()
    for call in (env.reset, lambda: env.step({})):
        with pytest.raises(gymnasium.error.ClosedEnvironmentError, match="closed"):
            call()


def test_record_video(tmp_path):
    pytest.importorskip("moviepy")
    env = gymnasium.make("unified/Voxel-v0", **SMALL, max_steps=5, render_mode="rgb_array")
    env = gymnasium.wrappers.RecordVideo(env, str(tmp_path), disable_logger=True)
    env.reset(seed=0)
    for _ in range(5):
        env.step({"forward": 1})
    env.close()
    (video,) = tmp_path.glob("*.mp4")
    assert video.stat().st_size > 500


def test_render_gives_the_observation(env):
    shown = VoxelEnv(**SMALL, render_mode="rgb_array")
    observation, _ = shown.reset(seed=1)
    assert np.array_equal(shown.render(), observation["pov"])
    assert env.render() is None


def test_config_and_settings_are_the_same():
    config = VoxelConfig(**SMALL)
    assert VoxelEnv(config).config == VoxelEnv(**SMALL).config
    with pytest.raises(ValueError, match="not both"):
        VoxelEnv(config, width=32)


def test_the_world_needs_no_torch():
    """It takes half the memory and half the start of a worker."""
    code = "import sys, unified.envs.voxel; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
