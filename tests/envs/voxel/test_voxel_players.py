"""The tasks and the players that solve them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from unified.envs.voxel import VoxelEnv
from unified.envs.voxel.actions import BUTTONS, parse_action
from unified.envs.voxel.physics import SPRINTING, YAW
from unified.envs.voxel.players import make_player, play_episode
from unified.envs.voxel.tasks import task_from_dict, task_to_dict

SETTINGS = {"width": 8, "height": 8, "world_size": (32, 32, 32), "max_steps": 1500}
TASKS = ("reach", "collect_logs", "dig_down", "follow_path")


@pytest.mark.parametrize("task", TASKS)
def test_players_solve_at_least_95_percent(task):
    env = VoxelEnv(**SETTINGS, task=task)
    episodes = [play_episode(env, make_player(task, seed), 1000 + seed) for seed in range(40)]
    assert sum(episode.success for episode in episodes) >= 38
    for episode in episodes:
        assert not episode.success or episode.reward == pytest.approx(1.0)


@pytest.mark.parametrize("task", TASKS)
def test_standing_still_earns_nothing(task):
    env = VoxelEnv(**SETTINGS, task=task)
    env.reset(seed=3)
    steps = [env.step({}) for _ in range(50)]
    assert sum(step[1] for step in steps) < 0.2
    assert not any(step[2] for step in steps)
    assert not steps[-1][4]["success"]


def test_leaving_the_path_ends_the_episode_without_success():
    env = VoxelEnv(**SETTINGS, task="follow_path")
    env.reset(seed=0)
    x, _, z = np.mean(env.task.path, axis=0)
    env.simulation.body[:3] = (x + 14 if x < 16 else x - 14, 30.0, z)
    _, _, terminated, _, info = env.step({})
    assert terminated
    assert not info["success"]


def test_goals_set_the_size_of_a_task():
    env = VoxelEnv(**SETTINGS, task="follow_path", goal=7)
    env.reset(seed=0)
    assert len(env.task.path) == 7
    env = VoxelEnv(**SETTINGS, task="collect_logs", goal=1)
    _, info = env.reset(seed=0)
    assert "1 log." in info["task"]
    assert play_episode(env, make_player("collect_logs", 0), 0).success


def test_a_task_that_cannot_be_set_is_an_error_and_the_running_game_stays():
    env = VoxelEnv(**SETTINGS, task="collect_logs", goal=100000)
    with pytest.raises(ValueError, match="no room for 100000 logs"):
        env.reset(seed=0)


@pytest.mark.parametrize("task", ["explore", *TASKS])
def test_tasks_survive_as_plain_data(task):
    env = VoxelEnv(**SETTINGS, task=task)
    env.reset(seed=0)
    data = json.loads(json.dumps(task_to_dict(env.task)))
    assert task_to_dict(task_from_dict(data)) == task_to_dict(env.task)


def wander(seed, ticks, name="explore"):
    env = VoxelEnv(**SETTINGS)
    env.reset(seed=seed)
    player = make_player(name, seed)
    actions, places = [], []
    for _ in range(ticks):
        action = player.act(env.simulation, env.task)
        parse_action(action)
        actions.append(action)
        env.step(action)
        places.append(env.simulation.body[:3].copy())
    return actions, np.array(places), env


def test_wandering_is_varied_bounded_and_repeatable():
    actions, places, env = wander(0, 1200)
    used = {key for action in actions for key in BUTTONS if action.get(key)}
    assert {"forward", "attack", "jump"} <= used
    assert len(used) >= 7
    cameras = np.array([action["camera"] for action in actions])
    assert np.abs(cameras).max() <= 10.0
    assert (np.abs(cameras) > 2).mean() > 0.05
    assert len({tuple(place) for place in places.round(0)[:, [0, 2]].tolist()}) > 40
    again, same_places, other = wander(0, 1200)
    assert np.array_equal(places, same_places)
    assert np.array_equal(env.get_state()["blocks"], other.get_state()["blocks"])
    assert str(actions[-50:]) == str(again[-50:])


def test_a_roamer_uses_every_key_often_and_where_it_does_something():
    episodes = [wander(seed, 80, "roam") for seed in range(20)]
    actions = [action for episode in episodes for action in episode[0]]
    used = {key: sum(action.get(key, 0) for action in actions) for key in BUTTONS}
    assert all(used[key] > 150 for key in ("forward", "back", "left", "right", "sneak", "sprint", "attack"))
    assert all(used[key] > 20 for key in ("jump", "use"))
    assert not any(action.get("sprint") and not action.get("forward") for action in actions)
    assert np.mean([np.ptp(places[:, [0, 2]], axis=0).max() for _, places, _ in episodes]) > 3
    assert any(env.simulation.inventory.counts.sum() != 32 for _, _, env in episodes)  # blocks were set
    again, same_places, _ = wander(0, 80, "roam")
    assert np.array_equal(episodes[0][1], same_places)
    assert str(episodes[0][0]) == str(again)


def test_a_roamer_sprints_with_the_key_alone():
    for seed in range(20):
        env = VoxelEnv(**SETTINGS)
        env.reset(seed=seed)
        player = make_player("roam", seed)
        for _ in range(80):
            action = player.act(env.simulation, env.task)
            env.step(action)
            assert action.get("sprint") or not env.simulation.status[SPRINTING]


def runs(flags):
    """The lengths of the runs of true flags."""
    found = [0]
    for flag in flags:
        found = [*found[:-1], found[-1] + 1] if flag else [*found, 0]
    return found


def test_a_prober_does_what_players_rarely_do():
    episodes = [wander(seed, 120, "probe") for seed in range(20)]
    actions = [action for episode in episodes for action in episode[0]]
    cameras = np.array([action["camera"] for action in actions])
    assert 25 < np.abs(cameras).max() <= 30.0
    assert (np.abs(cameras[:, 1]) > 10).mean() > 0.1
    used = {key: sum(action.get(key, 0) for action in actions) for key in BUTTONS}
    assert all(used[f"hotbar.{number}"] > 5 for number in range(1, 10))
    assert all(used[key] > 5 for key in ("inventory", "ESC", "forward", "jump", "attack"))
    still = [not any(a.get(key) for key in BUTTONS) and not a["camera"].any() for a in actions]
    assert sum(length >= 6 for length in runs(still)) > 20
    again, same_places, _ = wander(0, 120, "probe")
    assert np.array_equal(episodes[0][1], same_places)
    assert str(episodes[0][0]) == str(again)


def test_a_prober_closes_what_it_opens_and_looks_back_where_it_looked():
    env = VoxelEnv(**SETTINGS)
    opened = back = 0
    for seed in range(10):
        env.reset(seed=seed)
        player, yaws, open_for = make_player("probe", seed), [], 0
        for _ in range(150):
            env.step(player.act(env.simulation, env.task))
            open_for = open_for + 1 if env.simulation.hands.gui_open else 0
            opened += open_for == 1
            assert open_for < 12
            yaws.append(float(env.simulation.body[YAW]))
        turned = np.abs(np.diff(yaws)) > 5
        back += sum(
            turned[k] and turned[k + 1] and abs(yaws[k + 2] - yaws[k]) < 1e-3 for k in range(len(yaws) - 2)
        )
    assert opened > 10
    assert back > 5


def test_players_turn_no_faster_than_the_camera_tokens_can_say():
    for task in TASKS:
        env = VoxelEnv(**SETTINGS, task=task)
        env.reset(seed=5)
        player = make_player(task, 5)
        for _ in range(60):
            action = player.act(env.simulation, env.task)
            assert np.abs(action.get("camera", np.zeros(2))).max() <= 10.0
            if any(env.step(action)[2:4]):
                break


def test_unknown_players_are_refused():
    with pytest.raises(ValueError, match="no player for 'win'"):
        make_player("win", 0)


def test_the_benchmark_runs_as_a_command(tmp_path):
    pytest.importorskip("crafter")
    output = tmp_path / "rates.json"
    command = [sys.executable, "-m", "unified.eval.bench.voxel"]
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1"}
    run = subprocess.run(
        [*command, "--seconds", "0.3", "--output", str(output)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    rates = json.loads(output.read_text())["frames_per_second"]
    assert set(rates) == {"voxel 64x64", "voxel 640x360", "crafter 64x64"}
    assert all(f"{name}: " in run.stdout for name in rates)
    assert min(rates.values()) > 0
    bad = subprocess.run([*command, "--seconds", "-1"], capture_output=True, text=True, env=environment)
    assert bad.returncode == 2
    assert "--seconds" in bad.stderr.splitlines()[-1]
