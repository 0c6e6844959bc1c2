"""The game in lock-step: what it does with actions, determinism, several at once, recordings. Slow: a start
of the game takes some seconds of a processor."""

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env
from unified.envs.luanti import LuantiEnv, why_missing
from unified.envs.luanti import env as env_module
from unified.envs.luanti.players import make_player
from unified.envs.luanti.session import NoGround
from unified.envs.record import main as record_players
from unified.envs.recordings import ReadConfig, find_recordings, read_recording, record

from unified.apps.demo import random_model
from unified.pretrained import save_model

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_missing()), reason=why_missing() or "installed")]


@pytest.fixture(scope="module")
def game():
    env = LuantiEnv(width=48, height=40, render_mode="rgb_array")
    yield env
    env.close()


def place(info):
    return np.array([info["location_stats"][name] for name in ("xpos", "ypos", "zpos")])


def play(env, seed, actions):
    frames, infos = [], []
    observation, info = env.reset(seed=seed)
    for action in actions:
        frames.append(observation["pov"])
        infos.append(info)
        observation, _, _, _, info = env.step(action)
    return [*frames, observation["pov"]], [*infos, info]


MIXED = [
    *[{"forward": 1, "jump": k % 3 == 0, "camera": (0.5, 7)} for k in range(8)],
    *({"hotbar.2": 1}, {"camera": (30, 0)}, {"camera": (20, 0)}, {"use": 1}, {"hotbar.1": 1}),
    *[{"attack": 1}] * 12,
    *({"inventory": 1}, {"forward": 1}, {"inventory": 1}, {"back": 1, "camera": (-30, 0)}),
]


def test_the_same_seed_and_actions_give_the_same_states_and_pictures(game):
    (first, told), (second, again) = play(game, 3, MIXED), play(game, 3, MIXED)
    assert told == again
    assert [frame.shape for frame in first] == [(40, 48, 3)] * (len(MIXED) + 1)
    off = [np.abs(one.astype(int) - other).max() for one, other in zip(first, second, strict=True)]
    late = np.mean([value > 2 for value in off])  # frames that were drawn a step late, or nodes in them
    assert late < 0.5, off
    other, _ = game.reset(seed=4)
    assert not np.array_equal(other["pov"], first[0])


def test_keys_do_what_they_say(game):
    _, start = game.reset(seed=3)
    for _ in range(5):
        *_, info = game.step({})
    assert (
        np.array_equal(place(info), place(start))
        or info["location_stats"]["ypos"] <= start["location_stats"]["ypos"]
    )
    yaw = info["location_stats"]["yaw"]
    observation, *_, info = game.step({"camera": (10, 25)})
    assert (info["location_stats"]["yaw"] - yaw + 180) % 360 - 180 == pytest.approx(25)
    assert info["location_stats"]["pitch"] == pytest.approx(10)
    assert np.array_equal(observation["pov"], game.render())
    *_, info = game.step({"hotbar.3": 1})
    assert info["hotbar"] == 2
    *_, info = game.step({"jump": 1})
    assert place(info)[1] > place(start)[1]
    *_, info = game.step({"drop": 1, "swapHands": 1})
    assert info["inventory"]["default:wood"] == 31
    assert info["unsupported"] == ["swapHands"]
    for _ in range(20):
        *_, info = game.step({})
    assert info["on_ground"]


def test_digging_takes_time_and_gives_what_was_dug_and_placing_takes_it_away(game):
    game.reset(seed=3)
    for _ in range(3):
        *_, info = game.step({"camera": (25, 0)})
    assert info["looking_at"]
    before, below = info["inventory"], place(info)[1]
    ticks = 0
    while info["inventory"] == before and ticks < 60:
        *_, info = game.step({"attack": 1})
        ticks += 1
    assert 2 < ticks < 60
    assert sum(info["inventory"].values()) == sum(before.values()) + 1
    for _ in range(20):
        *_, info = game.step({})
    assert place(info)[1] < below
    game.step({"hotbar.2": 1, "camera": (-60, 0)})
    counts = []
    for _ in range(6):
        *_, info = game.step({"use": 1})
        counts.append(info["inventory"]["default:dirt"])
    assert counts[-1] < 32


def test_the_inventory_covers_the_picture_and_stops_the_player(game):
    observation, info = game.reset(seed=3)
    open_, *_, told = game.step({"inventory": 1})
    assert told["isGuiOpen"] == 1
    assert (open_["pov"] != observation["pov"]).any(-1).mean() > 0.1
    *_, told = game.step({"forward": 1, "camera": (5, 5), "hotbar.4": 1})
    assert told["location_stats"] == info["location_stats"]
    closed, *_, told = game.step({"ESC": 1})
    assert (told["isGuiOpen"], told["hotbar"]) == (0, 0)
    assert np.abs(closed["pov"].astype(int) - observation["pov"]).max() <= 2


def test_bad_input_changes_nothing_and_the_order_of_calls_is_told(game):
    observation, info = game.reset(seed=3)
    with pytest.raises(ValueError, match="unknown action key 'fly'"):
        game.step({"fly": 1})
    with pytest.raises(ValueError, match="the reset option is terrain_seed"):
        game.reset(options={"state": 1})
    assert game.info() == info
    assert np.array_equal(game.render(), observation["pov"])
    with pytest.raises(ValueError, match="no item default:chees"):
        LuantiEnv(start_items={"default:chees": 1}).reset(seed=0)
    env = LuantiEnv()
    with pytest.raises(ResetNeeded):
        env.step({})
    env.close()
    with pytest.raises(ClosedEnvironmentError):
        env.reset()


def test_a_map_without_ground_is_replaced_unless_it_was_asked_for(game, monkeypatch):
    asked = []
    begin = env_module.Session.begin

    def first_is_sea(self, *arguments):
        asked.append(arguments)
        if len(asked) == 1:
            raise NoGround("this world has no dry ground to stand on")
        return begin(self, *arguments)

    monkeypatch.setattr(env_module.Session, "begin", first_is_sea)
    observation, _ = game.reset(seed=3)
    assert len(asked) == 2
    assert asked[0] != asked[1]
    assert observation["pov"].any()
    asked.clear()
    with pytest.raises(ValueError, match="no dry ground"):
        game.reset(seed=3, options={"terrain_seed": 5})


def test_gymnasiums_checks_pass():
    env = gymnasium.make("unified/Luanti-v0", width=32, height=32, render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_several_stand_side_by_side_and_an_episode_ends_by_its_length():
    rows = gymnasium.make_vec("unified/Luanti-v0", 2, width=32, height=32, max_steps=2)
    observations, _ = rows.reset(seed=[3, 4])
    assert observations["pov"].shape == (2, 32, 32, 3)
    assert not np.array_equal(*observations["pov"])
    rows.step(rows.action_space.sample())
    *_, truncated, _ = rows.step(rows.action_space.sample())
    assert truncated.all()
    rows.close()


def test_what_is_recorded_is_read_as_it_was_played(game, tmp_path):
    player = make_player("walk", 0)
    steps = record(game, lambda _: player.act(game.info()), tmp_path / "walk", steps=30, seed=5)
    found = read_recording(tmp_path / "walk", ReadConfig(size=(40, 48)))
    assert steps == len(found.actions) == 30
    assert len(found.frames) == 31
    assert np.array_equal(found.frames[-1], game.render())
    assert any(action["forward"] or action["attack"] for action in found.actions)


def test_recordings_of_the_command_are_what_a_model_is_tuned_on(tmp_path):
    """The page's commands (docs/worlds.md), with a tiny model."""
    pytest.importorskip("datasets", reason="datasets comes with the extra `train`")
    from unified.train.__main__ import main as train

    save_model(tmp_path / "model", *random_model())
    words = ["unified/Luanti-v0", "--out", str(tmp_path / "play"), "--count", "2", "--steps", "16"]
    assert record_players([*words, "--size", "32x32"]) == 0
    assert [stem.name for stem in find_recordings(tmp_path / "play")] == ["random-00001", "walk-00000"]
    words = ["fine-tune", "--model", str(tmp_path / "model"), "--data", f"{tmp_path / 'play'}:recordings"]
    words += ["--steps", "1", "--rows", "1", "--size", "16", "--length", "512", "--cpu", "--workers", "1"]
    assert train([*words, "--out", str(tmp_path / "tuned")]) == 0
    assert (tmp_path / "tuned" / "model" / "config.json").is_file()
