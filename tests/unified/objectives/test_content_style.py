"""Content and style in turns: weights written out, packed images, and the turns themselves."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unified.objectives import ContentStyle, ContentStyleConfig, Progress
from unified.objectives.content_style import overlap

sys.path.insert(0, str(Path(__file__).parent))
from test_scale_weighted import scores

STEPS = [-1, 0, 1, 1, 2, 2, 2, -1]  # marks, then maps of one, two and three codes


def weights(config, learnt, given=None):
    given = given or scores(STEPS)
    log_probs = given.log_probs.clone().requires_grad_()
    ContentStyle(config).loss(replace(given, log_probs=log_probs), None, {"learnt": learnt}).loss.backward()
    return -log_probs.grad[0]


def test_weights_are_shares_of_a_group_and_a_little_of_the_other():
    config = ContentStyleConfig(steps=(0, -1), minor=0.5)
    assert torch.allclose(weights(config, "style"), torch.tensor([0, 1, 1, 1, 1, 1, 1, 0]) / 4)
    assert torch.allclose(weights(config, "content"), torch.tensor([0, 0, 1, 1, 0, 0, 0, 0]) / 2)


def test_the_groups_may_be_named_by_the_content():
    config = ContentStyleConfig(steps=(0,), kind="content", minor=0.2)
    assert torch.allclose(weights(config, "content"), torch.tensor([0, 1.0, 0, 0, 0, 0, 0, 0]))
    assert torch.allclose(weights(config, "style"), torch.tensor([0, 0.2, *[0.2] * 5, 0]))


def test_without_groups_all_codes_weigh_alike_in_both_turns():
    for learnt in ("style", "content"):
        assert torch.allclose(
            weights(ContentStyleConfig(steps=()), learnt), torch.tensor([0, *[1.0] * 6, 0]) / 6
        )


def test_images_packed_into_a_row_count_alike():
    two = scores([*STEPS, 0, 1, 1])
    two = replace(two, sample=torch.tensor([[0] * 8 + [1] * 3]))
    found = weights(ContentStyleConfig(steps=(0,), minor=0.0), "style", two)
    assert found.tolist() == [0, 0.5, *[0] * 6, 0.5, 0, 0]
    padded = replace(two, sample=two.sample.masked_fill(two.sample == 1, -1), targets=two.sample == 0)
    assert weights(ContentStyleConfig(steps=(0,), minor=0.0), "style", padded)[1] == 1.0


def test_steps_of_training_take_turns_style_first():
    objective = ContentStyle()
    turns = [objective.prepare({}, Progress(step=step, steps=4))["learnt"] for step in range(4)]
    assert turns == ["style", "content", "style", "content"]


def test_the_overlap_of_embeddings():
    basis = torch.eye(4)
    assert overlap(3 * basis[:2], basis[2:]) == 0
    assert overlap(-2 * basis[:1], basis[:1]).item() == pytest.approx(1)
    assert overlap(basis[:2], basis[:2]).item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("options", "words"), [({"kind": "form"}, "got 'form'"), ({"minor": -1.0}, "minor must be")]
)
def test_bad_options_are_one_line(options, words):
    with pytest.raises(ValueError, match=words):
        ContentStyleConfig(**options)
