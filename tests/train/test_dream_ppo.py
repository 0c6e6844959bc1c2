"""PPO in the dream and in the real world: the command at toy size, and what its test measures."""

import json

import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="needs Stable-Baselines3, the extra sb3")

from unified.envs.voxel import VoxelVectorEnv
from unified.train.experiments import dream_ppo
from unified.train.experiments.dream_ppo import (
    DIGGING,
    LOOKING,
    TASKS,
    TOY,
    PaidByFrames,
    Sizes,
    earned,
    main,
    sky,
    table,
)

from unified.apps.assistant import Assistant
from unified.apps.demo import random_model


@pytest.fixture
def tiny(monkeypatch):
    """A random model in place of the shipped one."""
    assistant = Assistant(*random_model(), side=40)
    monkeypatch.setattr("unified.apps.loading.load", lambda *_: assistant)
    return assistant


@pytest.mark.parametrize("task", TASKS)
def test_all_arms_at_toy_size(tiny, tmp_path, capsys, task):
    out = tmp_path / "new" / "result.json"
    given = ["--toy", "--task", task, "--out", str(out)]
    assert main([*given, "--seeds", "0"]) == 0
    before = json.loads(out.read_text())["arms"]
    assert main([*given, "--seeds", "0", "1"]) == 0
    arms = json.loads(out.read_text())["arms"]
    assert [[one["seed"] for one in seeds] for seeds in arms.values()] == [[0, 1]] * 3
    assert all(arms[name][0] == before[name][0] for name in arms), "what was done stays"
    assert all(0 <= one["test"] <= TOY.episode for seeds in arms.values() for one in seeds)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[-3:]] == list(dream_ppo.TITLES.values())
    assert main(["--toy", "--task", task, "--steps", "16", "--out", str(out)]) == 2
    assert "name another file" in capsys.readouterr().err


@pytest.mark.parametrize("task", TASKS)
def test_the_dream_arm_never_steps_the_real_world(tiny, monkeypatch, task):
    """Of each episode the start is real, all else is imagined."""
    stepped = []
    monkeypatch.setattr("unified.envs.voxel.env.VoxelEnv.tick", lambda *_: stepped.append(1))
    setting = TASKS[task]
    agent = dream_ppo.trained(setting.dream(TOY, tiny), setting.actions, TOY, 0)
    assert agent.num_timesteps == TOY.steps
    assert stepped == []


def test_the_test_tells_who_digs_from_who_stands():
    sizes, ticks, setting = Sizes(tests=4, episode=64), iter(range(1000)), TASKS["dig_down"]
    assert earned(lambda frames: np.zeros(len(frames), int), setting, sizes, 40).tolist() == [0.0] * 4
    down = DIGGING.index({"attack": 1, "camera": (10.0, 0.0)})
    dug = earned(lambda frames: np.full(len(frames), down if next(ticks) < 9 else 1), setting, sizes, 40)
    assert (dug > 0.1).sum() >= 3


def test_who_looks_up_sees_the_sky():
    sizes, setting = Sizes(tests=4), TASKS["sky"]
    up, down = (LOOKING.index({"camera": (pitch, 0.0)}) for pitch in (-10.0, 10.0))
    one, other = (earned(lambda frames, k=k: np.full(len(frames), k), setting, sizes, 40) for k in (up, down))
    assert (one > other + 1).all()
    blue, green = (np.broadcast_to(np.array(c, np.uint8), (2, 2, 3)) for c in ([90, 150, 240], [60, 130, 40]))
    assert sky(np.stack([blue, green])).tolist() == [1.0, 0.0]


def test_a_row_that_starts_anew_is_paid_for_its_last_frame():
    env = PaidByFrames(
        VoxelVectorEnv(1, width=16, height=16, max_steps=1, autoreset_mode="SameStep"),
        lambda frames: frames.mean(axis=(1, 2, 3)),
    )
    env.reset(seed=0)
    observations, rewards, _, truncated, infos = env.step([{}])
    assert truncated.all()
    assert rewards[0] == infos["final_obs"][0]["pov"].mean() != observations["pov"].mean()


def test_the_table_has_means_over_seeds():
    seeds = [
        {"seed": 0, "first": 0.1, "last": 0.3, "test": 0.2, "seconds": 1.0},
        {"seed": 1, "first": 0.1, "last": 0.5, "test": 0.4, "seconds": 1.0},
    ]
    assert table({"real": seeds})[2] == "| PPO, real world | 0.10 to 0.40 | 0.30 | 0.20, 0.40 |"


def test_bad_input_is_one_line(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--arms", "both"])
    assert end.value.code == 2
    assert main(["--model", "no/such/folder"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
