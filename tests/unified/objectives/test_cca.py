"""Condition contrastive alignment: its start, its signs, its pairs, what it learns."""

import copy
import math

import pytest
import torch
from unified.train.mismatched import mismatched

from unified.layout.layout import Layout
from unified.objectives import CCA, CCAConfig, Scores


def drawing(stream, word, codes):
    image = {"type": "image", "codes": codes, "shapes": [[1, 1], [2, 2]], "order": "next_scale"}
    return stream.encode([{"role": "user", "content": word}, {"role": "assistant", "content": [image]}])


def batch_of(pairs, vocabulary):
    samples = [sample for pair in pairs for sample in pair]
    length = max(map(len, samples))
    ids = torch.tensor([sample + [vocabulary.pad] * (length - len(sample)) for sample in samples])
    layout = Layout.of(ids, vocabulary)
    return {"input_ids": ids, "layout": layout, "labels": layout.labels(ids)}


def scored(model, batch) -> Scores:
    output = model(batch["input_ids"], labels=batch["labels"], layout=batch["layout"], return_logits=False)
    return Scores.of(output, batch["layout"], batch["labels"])


@pytest.fixture(scope="module")
def samples(stream):
    """Four conditions, each with an image of its own."""
    return [
        drawing(stream, word, [n, n + 4, n + 8, n, n]) for n, word in enumerate(["red", "a", "blue", "xy"])
    ]


@pytest.fixture(scope="module")
def batch(model, samples):
    """Two pairs of other conditions and one of no words."""
    pairs = mismatched(samples, model.vocabulary, null_ratio=0)
    bare = mismatched(samples, model.vocabulary, null_ratio=1)
    return batch_of([pairs[0], bare[1], pairs[2]], model.vocabulary)


@pytest.mark.parametrize("lambda_", [0.5, 20.0])
def test_at_the_start_the_loss_is_ln_2_by_the_mean_weight(lambda_, model, batch):
    same = scored(model, batch)
    found = CCA(CCAConfig(lambda_=lambda_)).loss(same, same, batch)
    weight = (2 * lambda_ + 1) / 3  # one pair of three is of equal conditions
    assert found.loss.item() == pytest.approx((1 + weight) * math.log(2) / max(lambda_, 1), abs=1e-5)
    assert float(found.logs["equal"]) == pytest.approx(1 / 3)
    assert float(found.logs["margin"]) == 0


def test_gradients_raise_matched_replies_and_lower_mismatched_ones_unless_both_are_the_same(model, batch):
    policy = scored(model, batch)
    log_probs = policy.log_probs.detach().requires_grad_()
    fields = {**policy.__dict__, "log_probs": log_probs}
    CCA(CCAConfig(beta=0.1, lambda_=2.0)).loss(Scores(**fields), policy, batch).loss.backward()
    by_row = [float(log_probs.grad[row][policy.targets[row]].unique()) for row in range(6)]
    # d/dr of -log sigmoid at 0 is -beta / 2: over 3 pairs and max(lambda, 1) = 2; lambda on mismatched rows
    unit = 0.1 / 2 / 3 / 2
    assert by_row == pytest.approx([-unit, 2 * unit, -unit, -unit, -unit, 2 * unit])
    assert float(log_probs.grad[~policy.targets].abs().sum()) == 0


def test_as_released_without_null_conditions_equal_pairs_count_as_mismatched(model, batch):
    same = scored(model, batch)
    found = CCA(CCAConfig(lambda_=20.0, masked=False)).loss(same, same, batch)
    assert found.loss.item() == pytest.approx(21 * math.log(2), rel=1e-6)


def test_packed_pairs_have_the_loss_of_pairs_in_rows_of_their_own(model, samples):
    pairs = mismatched(samples, model.vocabulary, null_ratio=0.5, seed=1)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.text_head.weight.mul_(1.1)
    packed = [(pairs[n][0] + pairs[n + 1][0], pairs[n][1] + pairs[n + 1][1]) for n in (0, 2)]
    losses = []
    for chosen in (pairs, packed):
        batch = batch_of(chosen, model.vocabulary)
        found = CCA(CCAConfig(beta=0.3)).loss(scored(other, batch), scored(model, batch), batch)
        losses.append((found.loss.item(), float(found.logs["equal"])))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert 0 < losses[0][1] < 1


def test_it_needs_a_reference_and_whole_pairs(model, batch):
    same = scored(model, batch)
    with pytest.raises(ValueError, match="no reference"):
        CCA().loss(same, None, batch)
    with pytest.raises(ValueError, match="beta must be positive"):
        CCAConfig(beta=0)
    with pytest.raises(ValueError, match="terms must be one of logistic, linear, got 'hinge'"):
        CCAConfig(terms="hinge")


def test_a_model_learns_to_tell_conditions_apart(model, samples):
    pairs = mismatched(samples, model.vocabulary, null_ratio=0)
    batch, policy = batch_of(pairs, model.vocabulary), copy.deepcopy(model).train()
    with torch.no_grad():
        reference = scored(model, batch)
    optimiser = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for _ in range(40):
        found = CCA(CCAConfig(beta=0.1, lambda_=1.0)).loss(scored(policy, batch), reference, batch)
        optimiser.zero_grad()
        found.loss.backward()
        optimiser.step()
    assert found.loss.item() < 0.7
    assert float(found.logs["accuracy"]) == 1
    assert float(found.logs["margin"]) > 10


def test_larger_lambda_makes_a_distribution_sharper():
    """A table of 4 conditions and 12 outcomes, optimised by its exact expectations: p goes the way of
    guidance, the farther the larger lambda is."""
    torch.manual_seed(0)
    reference = torch.randn(4, 12).log_softmax(-1)
    marginal = reference.exp().mean(0).log()
    gains = []
    for lambda_ in (0.3, 1.0, 3.0):
        table = reference.clone().requires_grad_()
        optimiser = torch.optim.Adam([table], lr=0.05)
        for _ in range(150):
            loss = expected(CCA(CCAConfig(beta=0.5, lambda_=lambda_)), table.log_softmax(-1), reference)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        found = table.log_softmax(-1).detach()
        gains.append(float((found.exp() * (reference - marginal)).sum(-1).mean()))
    start = float((reference.exp() * (reference - marginal)).sum(-1).mean())
    assert start < gains[0] < gains[1] < gains[2]


def expected(objective, policy, reference):
    """The objective's own terms for every (condition, other condition, outcome), by probability."""
    total, count = policy.new_zeros(()), len(policy)
    for one in range(count):
        for other in range(count):
            ratios = [(policy - reference)[number] for number in (one, other)]
            equal = torch.full_like(ratios[0], one == other, dtype=torch.bool)
            total = total + (reference[one].exp() * objective._terms(*ratios, equal)).sum()
    return total / count**2


# Pairs ------------------------------------------------------------------------------------------------------


def test_every_reply_stands_after_its_own_prompt_and_after_another(model, samples):
    words = model.vocabulary
    pairs = mismatched(samples, words, null_ratio=0, seed=5)
    assert sorted(pair[0] for pair in pairs) == sorted(samples)
    for one, other in pairs:
        start, begin = one.index(words.assistant), other.index(words.assistant)
        assert one[start:] == other[begin:]
        assert one[:start] != other[:begin]
    assert sorted(tuple(o[: o.index(words.assistant)]) for _, o in pairs) == sorted(
        tuple(s[: s.index(words.assistant)]) for s in samples
    )
    assert mismatched(samples, words, null_ratio=0, seed=5) == pairs
    assert mismatched(samples, words, null_ratio=0, seed=6) != pairs


def test_a_share_of_the_pairs_has_no_words(model, samples):
    pairs = mismatched(samples * 100, model.vocabulary, null_ratio=0.25, seed=0)
    bare = [one for one, other in pairs if one == other and one == model.null_stream(one)]
    assert 70 < len(bare) < 130


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda samples: (samples[:1], {}), "at least two samples"),
        (lambda samples: (samples, {"null_ratio": 2}), r"null_ratio must lie in \[0, 1\], got 2"),
        (lambda samples: ([samples[0], samples[1][:3]], {}), "without a turn of the assistant"),
    ],
)
def test_bad_samples_are_refused(change, words, model, samples):
    chosen, options = change(samples)
    with pytest.raises(ValueError, match=words):
        mismatched(chosen, model.vocabulary, **options)
