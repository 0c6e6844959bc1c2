"""Training on the first steps alone: how many, how often, and what is left of the loss."""

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from unified.objectives import CrossEntropy, EarlyCentric, EarlyCentricConfig, Progress

sys.path.insert(0, str(Path(__file__).parent))
from test_scale_weighted import scores

STEPS = [-1, 0, *[1] * 4, *[2] * 9]


def test_all_steps_are_cross_entropy():
    given = scores(STEPS)
    found = EarlyCentric().loss(given, None, {"rows": 1, "drawn": (0.0, 0.0)})
    assert torch.allclose(found.loss, CrossEntropy().loss(given, None, {"rows": 1}).loss)
    assert found.logs["steps"] == 3


def test_later_steps_have_no_loss_and_the_rest_weighs_as_much():
    given = scores(STEPS)
    objective = EarlyCentric(EarlyCentricConfig(full=0.0))
    found = objective.loss(given, None, {"rows": 1, "drawn": (0.5, 0.7)})
    assert found.logs["steps"] == 2
    assert torch.allclose(found.loss, -given.log_probs[0, :6].sum() * 15 / 6)


def test_small_steps_are_drawn_more_often():
    objective = EarlyCentric(EarlyCentricConfig(power=0.5, full=0.25))
    drawn = [objective.prepare({}, Progress(step=step, seed=1))["drawn"] for step in range(2000)]
    counts = Counter(objective.steps([1, 4, 9], pair) for pair in drawn)
    shares = [1, 1 / 2, 1 / 3]
    want = [0.75 * share / sum(shares) for share in shares]
    want[2] += 0.25
    assert [counts[n] / 2000 for n in (1, 2, 3)] == pytest.approx(want, abs=0.04)
    assert drawn[:5] == [objective.prepare({}, Progress(step=step, seed=1))["drawn"] for step in range(5)]


def test_a_batch_without_images_is_trained_on_whole():
    given = scores([-1, -1])
    found = EarlyCentric(EarlyCentricConfig(full=0.0)).loss(given, None, {"rows": 1, "drawn": (0.9, 0.9)})
    assert torch.allclose(found.loss, -given.log_probs.sum())


@pytest.mark.parametrize(("options", "words"), [({"power": -1.0}, "power"), ({"full": 1.5}, "full")])
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        EarlyCentricConfig(**options)
