"""PPO in the dream and in the real world: the command at toy size, and what its test measures."""

import json

import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="needs Stable-Baselines3, the extra sb3")

from unified.train.experiments import dream_ppo
from unified.train.experiments.dream_ppo import ACTIONS, TOY, Sizes, main, table, tested, worlds

from unified.apps.assistant import Assistant
from unified.apps.demo import random_model


@pytest.fixture
def tiny(monkeypatch):
    """A random model in place of the shipped one."""
    assistant = Assistant(*random_model(), side=40)
    monkeypatch.setattr("unified.apps.assistant.load", lambda *_: assistant)
    return assistant


def test_all_arms_at_toy_size(tiny, tmp_path, capsys):
    out = tmp_path / "new" / "result.json"
    assert main(["--toy", "--seeds", "0", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [len(seeds) for seeds in found["arms"].values()] == [2, 2, 2]
    assert all(0 <= one["test"] <= 1 for seeds in found["arms"].values() for one in seeds)
    assert all({"first", "last"} <= one.keys() for name in ("dream", "real") for one in found["arms"][name])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(dream_ppo.TITLES.values())


def test_the_dream_arm_sees_no_real_frame_but_the_first(tiny, monkeypatch):
    """Of each episode of training in the dream the start is real, all else is imagined."""
    stepped = []
    monkeypatch.setattr("unified.envs.voxel.env.VoxelEnv.step", lambda *_: stepped.append(1))
    env = dream_ppo.dreams(TOY, tiny)
    agent = dream_ppo.trained(env, TOY, 0)
    assert agent.num_timesteps == TOY.steps
    assert stepped == []


def test_the_test_tells_who_digs_from_who_stands():
    """The first action presses nothing; looking down and hitting goes levels deeper."""
    sizes, ticks = Sizes(tested=4), iter(range(1000))
    assert tested(lambda frames: np.zeros(len(frames), int), sizes, 40).tolist() == [0.0] * 4
    down = ACTIONS.index({"attack": 1, "camera": (10.0, 0.0)})
    dug = tested(lambda frames: np.full(len(frames), down if next(ticks) < 9 else 1), sizes, 40)
    assert (dug > 0.1).sum() >= 3
    assert worlds(sizes, 40, rows=1).single_observation_space["pov"].shape == (40, 40, 3)


def test_the_table_has_means_over_seeds():
    seeds = [
        {"first": 0.1, "last": 0.3, "test": 0.2, "none": 0.5, "seconds": 1.0},
        {"first": 0.1, "last": 0.5, "test": 0.4, "none": 0.3, "seconds": 1.0},
    ]
    assert table({"real": seeds})[2] == "| PPO, real world | 0.100 to 0.400 | 0.300 | 0.200, 0.400 | 40% |"


def test_bad_input_is_one_line(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--arms", "both"])
    assert end.value.code == 2
    assert main(["--model", "no/such/folder"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
