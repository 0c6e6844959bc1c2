"""The table of rewards: agents play the same episodes, each as it would alone."""

import json

import numpy as np
import pytest
from unified.envs.voxel import VoxelEnv
from unified.envs.world_model.planning import PlannerConfig
from unified.eval.agents import AGENTS, NEED_A_MODEL, Play, play_episodes
from unified.eval.rewards import main

from unified.apps.assistant import Assistant
from unified.apps.demo import random_model


@pytest.fixture(scope="module")
def assistant():
    return Assistant(*random_model(), side=32)


def played(name, seeds, assistant=None, task="dig_down", steps=6, **settings):
    envs = [VoxelEnv(task=task, width=32, height=32, max_steps=steps, goal=1) for _ in seeds]
    return play_episodes(AGENTS[name], Play(envs=envs, task=task, assistant=assistant, **settings), seeds)


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_plays_to_the_end(name, assistant):
    planner = PlannerConfig(horizon=2, candidates=2, elites=1)
    first, again = (played(name, [3, 4], assistant, planner=planner, commit=2) for _ in range(2))
    assert first.lengths.tolist() == [6, 6]
    assert np.array_equal(first.rewards, again.rewards), "the same seed plays the same"


def test_who_reads_the_state_does_the_task():
    found = played("scripted", [0, 1, 2], steps=150)
    assert found.successes.all()
    assert found.rewards.tolist() == [1.0] * 3
    assert (found.lengths < 150).all()


def test_agents_without_a_model_say_so():
    for name in NEED_A_MODEL:
        with pytest.raises(ValueError, match="needs a model"):
            played(name, [0])


def test_the_command_prints_markdown_or_json(capsys):
    given = ["--tasks", "dig_down", "--agents", "random", "scripted", "--episodes", "2", "--steps", "150"]
    assert main([*given, "--goal", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in lines[0].split("|")] == ["", "task", "random", "scripted", ""]
    assert "1.00 ± 0.00 (2/2)" in lines[2]
    assert main([*given, "--goal", "1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["rewards"]["dig_down"]
    assert data["scripted"]["successes"] == [True, True]
    with pytest.raises(SystemExit) as end:
        main(["--tasks", "explore"])
    assert end.value.code == 2
