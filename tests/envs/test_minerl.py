"""The MineRL adapter against the documented spaces, with recorded sessions of both generations.

`Session` stands at the place of the outer package: it answers what was recorded and refuses any action that
differs from the recorded one. The tests marked `minerl` start the real thing.
"""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces
from unified.envs.minerl import MineRLEnv
from unified.envs.recordings import read_recording, record
from unified.tokenizers.action import BUTTONS, complete

DOCUMENTED_KEYS = [
    *("ESC", "attack", "back", "camera", "drop", "forward"),
    *(f"hotbar.{number}" for number in range(1, 10)),
    *("inventory", "jump", "left", "pickItem", "right", "sneak", "sprint", "swapHands", "use"),
]
TREECHOP_KEYS = ("attack", "back", "camera", "forward", "jump", "left", "right", "sneak", "sprint")


def camera(pitch=0.0, yaw=0.0):
    return np.array([pitch, yaw], dtype=np.float32)


class Session:
    """Old gym: `reset` gives an observation, `step` a 4-tuple; `recorded` is a list of (action, answer)."""

    def __init__(self, first, recorded, *, keys, shape, others=(), limit=None):
        self.first, self.recorded, self.position = first, recorded, None
        parts = {key: spaces.Discrete(2) for key in keys if key != "camera"}
        parts["camera"] = spaces.Box(-180, 180, (2,), np.float32)
        self.action_space = SimpleNamespace(
            spaces={**parts, **dict.fromkeys(others)},
            noop=lambda: {**dict.fromkeys(keys, 0), "camera": camera(), **dict.fromkeys(others, "none")},
        )
        self.observation_space = SimpleNamespace(spaces={"pov": spaces.Box(0, 255, shape, np.uint8)})
        self.spec = SimpleNamespace(max_episode_steps=limit)
        self.seeds, self.closed = [], False

    def seed(self, seed):
        assert isinstance(seed, int)
        self.seeds.append(seed)

    def reset(self):
        self.position = 0
        return self.first

    def step(self, action):
        expected, answer = self.recorded[self.position]
        assert action.keys() == expected.keys()
        assert all(np.array_equal(action[key], expected[key]) for key in expected)
        assert action["camera"].dtype == np.float32
        self.position += 1
        return answer

    def close(self):
        self.closed = True


def pov(number, shape):
    return np.full(shape, number, dtype=np.uint8)


def full(**pressed):
    """The 24 documented keys as MineRL 1.0 gets them."""
    turn = pressed.pop("camera", camera())
    names = {name.replace("_", "."): value for name, value in pressed.items()}
    return {**dict.fromkeys(BUTTONS, 0), **names, "camera": turn}


NEW_SHAPE, OLD_SHAPE = (360, 640, 3), (64, 64, 3)


@pytest.fixture
def basalt():
    """MineRL 1.0, FindCave: three steps, the third with ESC, which ends the episode."""
    recorded = [
        (full(forward=1, hotbar_2=1), ({"pov": pov(1, NEW_SHAPE)}, 0, False, {})),
        (full(attack=1, camera=camera(-3.5, 0.15)), ({"pov": pov(2, NEW_SHAPE)}, 0.0, False, {})),
        (full(ESC=1), ({"pov": pov(3, NEW_SHAPE)}, 0.0, True, {})),
    ]
    return Session({"pov": pov(0, NEW_SHAPE)}, recorded, keys=DOCUMENTED_KEYS, shape=NEW_SHAPE, limit=3600)


@pytest.fixture
def obtain():
    """MineRL 0.4, ObtainDiamond: a subset of the keys and some of its own."""
    others = ("craft", "equip", "nearbyCraft", "nearbySmelt", "place")
    rest = dict.fromkeys(others, "none")
    keys = dict.fromkeys(TREECHOP_KEYS, 0)
    recorded = [
        ({**keys, **rest, "jump": 1, "camera": camera(0, 5)}, (old(1), 1.0, False, {})),
        ({**keys, **rest, "camera": camera(), "craft": "planks"}, (old(2), 2.0, False, {})),
        ({**keys, **rest, "camera": camera()}, (old(3), 0.0, True, {"TimeLimit.truncated": True})),
    ]
    return Session(old(0), recorded, keys=TREECHOP_KEYS, shape=OLD_SHAPE, others=others)


def old(number):
    return {"pov": pov(number, OLD_SHAPE), "inventory": {"log": number}}


def test_the_action_space_is_the_documented_one(basalt, obtain):
    for session in (basalt, obtain):
        space = MineRLEnv(session).action_space
        assert sorted(space) == DOCUMENTED_KEYS
        assert space["camera"] == spaces.Box(-180, 180, (2,), np.float32)
        assert all(space[name] == spaces.Discrete(2) for name in BUTTONS)
    assert MineRLEnv(basalt).observation_space["pov"] == spaces.Box(0, 255, NEW_SHAPE, np.uint8)
    assert MineRLEnv(obtain).observation_space["pov"] == spaces.Box(0, 255, OLD_SHAPE, np.uint8)


def test_the_voxel_world_and_minerl_share_their_action_space(basalt):
    voxel = pytest.importorskip("unified.envs.voxel")
    ours = voxel.VoxelEnv()
    assert ours.action_space == MineRLEnv(basalt).action_space
    assert list(ours.observation_space) == list(MineRLEnv(basalt).observation_space)


def test_a_session_of_minerl_1(basalt):
    env = MineRLEnv(basalt)
    observation, info = env.reset(seed=7)
    assert (observation["pov"].max(), info, basalt.seeds) == (0, {}, [7])
    observation, reward, terminated, truncated, info = env.step({"forward": 1, "hotbar.2": 1})
    assert observation in env.observation_space
    assert (observation["pov"][0, 0, 0], reward, terminated, truncated, info) == (1, 0.0, False, False, {})
    env.step({"attack": np.int64(1), "camera": [-3.5, 0.15]})
    assert env.render()[0, 0, 0] == 2
    *_, terminated, truncated, _ = env.step({"ESC": 1})
    assert (terminated, truncated) == (True, False)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step({})
    env.close()
    assert basalt.closed


def test_a_session_of_minerl_0_4(obtain):
    env = MineRLEnv(obtain)
    observation, info = env.reset()
    assert list(observation) == ["pov"]
    assert info == {"inventory": {"log": 0}}
    pressed = {"jump": 1, "use": 1, "hotbar.4": 1, "camera": [0, 5]}
    _, reward, *_, info = env.step(pressed)
    assert reward == 1.0
    assert info == {"inventory": {"log": 1}, "unsupported": ["use", "hotbar.4"]}
    *_, info = env.step({"craft": "planks"})  # the wrapped environment's own key
    assert info == {"inventory": {"log": 2}}
    *_, terminated, truncated, _ = env.step({})
    assert (terminated, truncated) == (False, True)


def test_every_sampled_action_reaches_the_game(basalt):
    env = MineRLEnv(basalt)
    env.action_space.seed(0)
    for _ in range(20):
        action = env.action_space.sample()
        basalt.recorded = [(complete(action), ({"pov": pov(1, NEW_SHAPE)}, 0.0, False, {}))]
        env.reset()
        env.step(action)
        assert basalt.position == 1


def test_a_time_out_never_hands_on_the_random_picture(basalt):
    noise = np.random.default_rng(0).integers(0, 256, NEW_SHAPE, dtype=np.uint8)
    basalt.recorded[1] = (full(), ({"pov": noise}, 0, True, {"error": "timed out"}))
    env = MineRLEnv(basalt)
    env.reset()
    before, *_ = env.step({"forward": 1, "hotbar.2": 1})
    after, reward, terminated, truncated, info = env.step({})
    np.testing.assert_array_equal(after["pov"], before["pov"])
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info == {"error": "timed out", "repeated": True}
    with pytest.raises(RuntimeError, match="call reset"):
        env.step({})


def test_running_out_of_steps_is_a_truncation(basalt):
    basalt.spec.max_episode_steps = 2
    basalt.recorded[1] = (full(), ({"pov": pov(2, NEW_SHAPE)}, 0, True, {}))
    env = MineRLEnv(basalt)
    env.reset()
    env.step({"forward": 1, "hotbar.2": 1})
    *_, terminated, truncated, _ = env.step({})
    assert (terminated, truncated) == (False, True)


def test_handed_out_frames_survive_the_games_buffer(basalt):
    env = MineRLEnv(basalt)
    observation, _ = env.reset()
    basalt.first["pov"][:] = 99
    env.render()[:] = 98
    assert observation["pov"].max() == 0
    assert env.render().max() == 0


def test_a_session_is_recorded_like_any_other_play(tmp_path, basalt):
    basalt.first = {**basalt.first, "location_stats": {"yaw": np.float32(12.5), "pitch": np.array(3.0)}}
    basalt.recorded[0][1][3]["isGuiOpen"] = 1
    actions = [{"forward": 1, "hotbar.2": 1}, {"attack": 1, "camera": [-3.5, 0.15]}, {"ESC": 1}]
    assert record(MineRLEnv(basalt), actions, tmp_path / "a") == 3
    recording = read_recording(tmp_path / "a")
    assert recording.frames[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert (recording.lines[0]["yaw"], recording.lines[0]["pitch"]) == (12.5, 3.0)
    assert [line["isGuiOpen"] for line in recording.lines] == [False, True, False]
    assert (recording.frames[1] == 1).all()  # MineRL draws the cursor itself


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ({"fly": 1}, "unknown action key 'fly'"),
        ({"craft": "planks"}, "unknown action key 'craft'"),
        ({"camera": [0, float("nan")]}, "finite"),
        ({"camera": [0, 0, 0]}, "shape"),
        ({"camera": [0, 200]}, "-180 to 180"),
        ({"jump": 2}, "0 or 1"),
        ([1, 0], "must be a dict"),
    ],
)
def test_bad_actions_are_refused_before_the_game_sees_them(basalt, action, message):
    env = MineRLEnv(basalt)
    env.reset()
    with pytest.raises(ValueError, match=message) as refusal:
        env.step(action)
    assert "\n" not in str(refusal.value)
    assert basalt.position == 0


def test_steps_before_reset_and_reset_options_are_refused(basalt):
    with pytest.raises(RuntimeError, match="call reset"):
        MineRLEnv(basalt).step({})
    with pytest.raises(ValueError, match="no reset options"):
        MineRLEnv(basalt).reset(options={"state": 1})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            ({"pov": pov(0, OLD_SHAPE)}, 0, False, {}),
            r"pov of uint8 \[64, 64, 3\], expected uint8 \[360, 640, 3\]",
        ),
        (({"view": 1}, 0, False, {}), "pov of object"),
        (({"pov": pov(0, NEW_SHAPE)}, 0, False, False, {}), "4 values"),
    ],
)
def test_a_game_that_answers_something_else_is_an_error(basalt, answer, message):
    basalt.recorded[0] = (full(), answer)
    env = MineRLEnv(basalt)
    env.reset()
    with pytest.raises(RuntimeError, match=message):
        env.step({})


@pytest.mark.parametrize(
    ("actions", "observations"),
    [
        ({"move": 1}, {"pov": spaces.Box(0, 255, OLD_SHAPE, np.uint8)}),
        ({"camera": 1}, {"image": spaces.Box(0, 255, OLD_SHAPE, np.uint8)}),
        ({"camera": 1}, {"pov": spaces.Box(0, 255, (64, 64), np.uint8)}),
        (spaces.Discrete(3), {"pov": spaces.Box(0, 255, OLD_SHAPE, np.uint8)}),
        ({"camera": 1, "craft": 1}, {"pov": spaces.Box(0, 255, OLD_SHAPE, np.uint8)}),
    ],
)
def test_other_environments_cannot_be_wrapped(actions, observations):
    with pytest.raises(ValueError, match=r"not a MineRL environment|noop"):
        MineRLEnv(SimpleNamespace(action_space=actions, observation_space=observations))


@pytest.mark.skipif(importlib.util.find_spec("minerl") is not None, reason="MineRL is installed")
def test_without_minerl_the_error_says_what_to_install():
    with pytest.raises(ImportError) as refusal:
        MineRLEnv.make("MineRLBasaltFindCave-v0")
    text = str(refusal.value)
    assert "\n" not in text
    for needed in (
        "Java 8 JDK",
        "pip install git+https://github.com/minerllabs/minerl@v1.0.2",
        "unified-multimodal[minerl]",
    ):
        assert needed in text


@pytest.mark.minerl
def test_the_real_environment():
    pytest.importorskip("minerl", reason="MineRL is not installed")
    import gym

    modern = "MineRLBasaltFindCave-v0" in {spec.id for spec in gym.envs.registry.all()}
    env = MineRLEnv.make("MineRLBasaltFindCave-v0" if modern else "MineRLTreechop-v0")
    try:
        observation, _ = env.reset(seed=1)
        assert observation in env.observation_space
        assert env.observation_space["pov"].shape == (NEW_SHAPE if modern else OLD_SHAPE)
        frames = [observation["pov"]]
        for _ in range(20):
            observation, reward, terminated, truncated, _ = env.step({"camera": [0, 9]})
            assert observation in env.observation_space
            assert isinstance(reward, float)
            assert not terminated
            assert not truncated
            frames.append(observation["pov"])
        assert not np.array_equal(frames[0], frames[-1])
    finally:
        env.close()
