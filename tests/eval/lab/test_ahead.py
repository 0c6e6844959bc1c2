"""Experiments that see ahead, act, or answer with pictures: what they compute, and toy runs."""

import numpy as np
import pytest
import torch
from unified.eval.lab import runner
from unified.eval.lab.experiment import Results, verdict
from unified.eval.lab.experiments import EXPERIMENTS, future_sight_drive
from unified.eval.lab.ground import streams
from unified.eval.lab.ground.ground import Ground
from unified.eval.lab.sizes import TOY

NAMES = ["future_sight_drive"]


def of_seeds(numbers):
    return Results({"all": {seed: numbers for seed in range(3)}})


# Rows of pieces ---------------------------------------------------------------------------------------------


def test_rows_of_pieces_are_scored_where_they_say():
    words = future_sight_drive.vocabulary(TOY)
    codes = torch.randint(TOY.tokenizer.codes, (2, 3, 64))
    actions = torch.stack([torch.tensor([n % 2 * 100 + 3 for n in range(12)])] * 2)
    goals = torch.tensor([[0], [2]])
    parts = (*future_sight_drive.asked(codes, goals), *future_sight_drive.answered("own", codes, actions, 32))
    rows = streams.joined(words, parts)
    scored = rows.labels[0] >= 0
    assert int(scored.sum()) == 64 + 12
    assert torch.equal(rows.labels[0][scored], rows.ids[0][scored])
    assert rows.ids[1, :2].tolist() == [words.begin, words.user]
    model = streams.small_model(TOY, words, 0).eval()
    with torch.no_grad():
        found = model(rows.ids, labels=rows.labels, layout=rows.layout)
        anew = model(rows.ids, labels=rows.labels)
    assert torch.equal(found.loss, anew.loss)  # a layout of one line serves all rows


# FutureSightDrive -------------------------------------------------------------------------------------------


def test_plans_survive_bins():
    plans = np.stack([np.linspace([0, 1], [-20, 12], 6), np.linspace([0, 0], [3, 26], 6)])
    actions = future_sight_drive.to_bins(plans)
    assert np.abs(future_sight_drive.to_metres(actions) - plans).max() <= 0.25
    for slot in range(12):
        assert all(int(a) in future_sight_drive.choices(slot) for a in actions[:, slot])


def test_frames_that_help_are_judged_by_what_shuffling_costs():
    def numbers(own, foreign):
        means = {"no frame": 2.0, "own frame": own, "foreign frame": foreign, "true frame": 1.0,
                 "filler": 2.0, "mean plan": 6.0}  # fmt: skip
        return {arm: {"l2": value, "collision": 0.1} for arm, value in means.items()}

    judge = future_sight_drive.judge
    assert verdict(judge(of_seeds(numbers(1.5, 3.0))), 3)[0] == "reproduced"
    assert verdict(judge(of_seeds(numbers(1.5, 1.5))), 3)[0] == "not reproduced"
    useless = numbers(1.5, 3.0) | {"true frame": {"l2": 2.5, "collision": 0.1}}
    assert verdict(judge(of_seeds(useless)), 3)[0] == "not applicable at this size"


# Whole experiments ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_runs_and_is_judged(name, tmp_path):
    ground = Ground(TOY, tmp_path / "weights", tmp_path / "cache")
    results = runner.run(name, ground, range(1), tmp_path / "results", tmp_path / "work")
    criteria = EXPERIMENTS[name].judge(results)
    assert results.seeds == [0]
    assert criteria
    assert all(criterion.measured or criterion.why for criterion in criteria)
