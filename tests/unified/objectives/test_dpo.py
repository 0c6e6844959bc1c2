"""DPO against its formula, and what it learns."""

import copy
import math

import pytest
import torch

from unified.layout.layout import Layout
from unified.objectives import DPO, DPOConfig, Scores


def reply(stream, words, codes=None):
    """A sample: a short reply and, with codes, an image of five."""
    image = {"type": "image", "codes": codes, "shapes": [[1, 1], [2, 2]], "order": "next_scale"}
    content = [{"type": "text", "text": words}, *([image] if codes else [])]
    return stream.encode([{"role": "user", "content": "draw"}, {"role": "assistant", "content": content}])


def batch_of(samples, vocabulary):
    """Rows of one sample each, filled up: ids, layout, labels."""
    length = max(map(len, samples))
    ids = torch.tensor([sample + [vocabulary.pad] * (length - len(sample)) for sample in samples])
    layout = Layout.of(ids, vocabulary)
    return ids, layout, layout.labels(ids)


def scored(model, ids, layout, labels) -> Scores:
    return Scores.of(model(ids, labels=labels, layout=layout, return_logits=False), layout, labels)


@pytest.fixture(scope="module")
def pairs(model, stream):
    """Two pairs, one of images and one of texts of unequal length."""
    samples = [
        reply(stream, "here", [1, 2, 3, 4, 5]),
        reply(stream, "here", [9, 8, 7, 6, 5]),
        reply(stream, "a long reply"),
        reply(stream, "short"),
    ]
    return batch_of(samples, model.vocabulary)


@pytest.fixture(scope="module")
def moved(model):
    """The model after a step in some direction."""
    other = copy.deepcopy(model)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=rng)
    return other


def test_at_the_start_the_loss_is_ln_2(model, pairs):
    same = scored(model, *pairs)
    found = DPO().loss(same, same, {})
    assert float(found.loss) == pytest.approx(math.log(2), abs=1e-6)
    assert float(found.logs["reward_margin"]) == 0


@pytest.mark.parametrize("normalised", [False, True])
def test_it_is_the_closed_formula(normalised, model, moved, pairs):
    labels = pairs[2]
    policy, reference = scored(moved, *pairs), scored(model, *pairs)
    sums = policy.log_probs.double().sum(1), reference.log_probs.double().sum(1)
    lengths = (labels != -100).sum(1) if normalised else torch.ones(4)
    ratios = [float(a - b) / float(n) for a, b, n in zip(*sums, lengths, strict=True)]
    margins = [ratios[0] - ratios[1], ratios[2] - ratios[3]]
    expected = [math.log1p(math.exp(-0.3 * margin)) for margin in margins]
    found = DPO(DPOConfig(beta=0.3, length_normalised=normalised)).loss(policy, reference, {})
    assert float(found.loss) == pytest.approx(sum(expected) / 2, rel=1e-4)
    assert float(found.logs["reward_margin"]) == pytest.approx(0.3 * sum(margins) / 2, rel=1e-3)
    assert float(found.logs["reward_accuracy"]) == sum(margin > 0 for margin in margins) / 2


def test_swapping_the_replies_negates_the_margin(model, moved, pairs):
    swapped = tuple(torch.stack([rows[1], rows[0], rows[3], rows[2]]) for rows in (pairs[0], pairs[2]))
    other = (swapped[0], Layout.of(swapped[0], model.vocabulary), swapped[1])
    margins = [
        float(DPO().loss(scored(moved, *batch), scored(model, *batch), {}).logs["reward_margin"])
        for batch in (pairs, other)
    ]
    assert margins[0] == pytest.approx(-margins[1], rel=1e-3)
    assert abs(margins[0]) > 1e-3


def test_packed_pairs_give_the_loss_of_pairs_in_rows_of_their_own(model, moved, stream, pairs):
    ids, _, _ = pairs
    pad = model.vocabulary.pad
    rows = [[t for t in row if t != pad] for row in ids.tolist()]
    packed = batch_of([rows[0] + rows[2], rows[1] + rows[3]], model.vocabulary)
    alone = DPO().loss(scored(moved, *pairs), scored(model, *pairs), {})
    together = DPO().loss(scored(moved, *packed), scored(model, *packed), {})
    torch.testing.assert_close(together.loss, alone.loss, rtol=1e-4, atol=1e-5)


def test_it_needs_a_reference_and_whole_pairs(model, pairs):
    policy = scored(model, *pairs)
    with pytest.raises(ValueError, match="no reference"):
        DPO().loss(policy, None, {})
    ids, _, labels = pairs
    three = scored(model, ids[:3], Layout.of(ids[:3], model.vocabulary), labels[:3])
    with pytest.raises(ValueError, match="got 3 rows"):
        DPO().loss(three, three, {})


def test_it_learns_which_picture_is_preferred(model, pairs):
    """A few steps from a reference that prefers neither: the likelihood of all the chosen replies gains."""
    policy = copy.deepcopy(model).train()
    with torch.no_grad():
        reference = scored(model, *pairs)
    optimiser = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for _ in range(40):
        found = DPO(DPOConfig(beta=0.1)).loss(scored(policy, *pairs), reference, {})
        optimiser.zero_grad()
        found.loss.backward()
        optimiser.step()
    assert float(found.loss) < 0.1
    assert float(found.logs["reward_accuracy"]) == 1
