"""A reward and termination read-out learns from steps, with probabilities of all steps."""

import json

import pytest
import torch
from unified.envs.world_model.read_out import ReadOutConfig, load_read_out
from unified.tasks.worlds.rewarded import Steps
from unified.train.read_out import ReadOutTraining, main, precision_recall, train_read_out

SMALL = ReadOutConfig(size=16, width=8)
QUICK = ReadOutTraining(steps=200, batch=32)


def squares(count, seed):
    """A red square appears in a quarter of the steps: a reward of 0.5; a large one also ends the episode."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(90, 130, (count, 2, 16, 16, 3), generator=generator, dtype=torch.uint8)
    kind = torch.randint(0, 8, (count,), generator=generator)  # 0 small, 1 large, others none
    for row in range(count):
        if kind[row] < 2:
            side = 4 if kind[row] == 0 else 10
            frames[row, 1, 3 : 3 + side, 3 : 3 + side] = torch.tensor([250, 20, 20], dtype=torch.uint8)
    return Steps(frames, 0.5 * (kind < 2), kind == 1, torch.ones(count))


def test_it_learns_what_is_rewarded_and_what_ends():
    torch.set_num_threads(1)
    model = train_read_out(squares(400, 0), SMALL, QUICK)
    assert model.config.amount == 0.5
    scores = precision_recall(model, squares(200, 1))
    assert all(scores[name][what] > 0.9 for name in ("reward", "end") for what in ("precision", "recall"))


def test_probabilities_are_those_of_all_steps():
    """Where frames tell nothing, the probability is how often the event happens, though half of what is drawn
    is rewarded."""
    data = squares(400, 0)
    blank = Steps(torch.full_like(data.frames, 100), data.rewards, data.ends, data.weights)
    model = train_read_out(blank, SMALL, QUICK)
    with torch.no_grad():
        told = model(blank.frames[:1])[0].sigmoid()
    truth = torch.stack([(data.rewards > 0).float().mean(), data.ends.float().mean()])
    assert told.tolist() == pytest.approx(truth.tolist(), abs=0.1)
    with pytest.raises(ValueError, match="with and without a reward"):
        train_read_out(Steps(data.frames, torch.zeros(400), torch.zeros(400).bool(), data.weights), SMALL)


def test_the_command_saves_it_beside_a_model(tmp_path, capsys):
    given = ["--task", "reach", "--episodes", "4", "--test-episodes", "2", "--steps", "2"]
    assert main([*given, "--out", str(tmp_path)]) == 0
    assert load_read_out(tmp_path / "reward_reach.safetensors").config.task == "reach"
    notes = json.loads(capsys.readouterr().out.splitlines()[1])
    assert notes["test"]["reward"].keys() == {"precision", "recall", "true"}
    assert main([*given, "--out", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
