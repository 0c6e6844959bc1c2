"""What objectives are given: scores by token, sample, segment and step."""

from dataclasses import replace

import pytest
import torch

from unified.layout.layout import IGNORED, Layout, pack
from unified.objectives import OBJECTIVES, Progress, Scores, build_objective
from unified.stream.messages import Stream


def talk(stream: Stream, reply: str) -> list[int]:
    return stream.encode([{"role": "user", "content": "hi"}, {"role": "assistant", "content": reply}])


def drawing(stream: Stream, first: int) -> list[int]:
    codes = [first + n for n in range(5)]
    image = {"type": "image", "codes": codes, "shapes": [[1, 1], [2, 2]], "order": "next_scale"}
    return stream.encode([{"role": "user", "content": "draw"}, {"role": "assistant", "content": [image]}])


@pytest.fixture(scope="module")
def packed(model, stream):
    """One row of two samples and padding, with its layout, labels and output."""
    samples = [drawing(stream, 3), talk(stream, "hello")]  # packing begins with the longest
    ids = pack(samples, sum(map(len, samples)) + 4, model.vocabulary)
    layout = Layout.of(ids, model.vocabulary)
    labels = layout.labels(ids)
    return samples, layout, labels, model(ids, labels=labels)


def test_sums_of_packed_samples_are_those_of_each_alone(model, packed):
    samples, layout, labels, output = packed
    found = Scores.of(output, layout, labels)
    rows = {int(n) for n in found.sample.unique() if n >= 0}
    sums = [float(found.per_sample()[0, n]) for n in sorted(rows)]
    counts = [int(found.targets_per_sample()[0, n]) for n in sorted(rows)]
    for ids, total, count in zip(samples, sums, counts, strict=True):
        row = torch.tensor([ids])
        alone_labels = Layout.of(row, model.vocabulary).labels(row)
        alone = model(row, labels=alone_labels).log_probs
        assert total == pytest.approx(float(alone.sum()), rel=1e-5)
        assert count == int((alone_labels != IGNORED).sum())


def test_sums_by_segment_and_step_add_up_to_the_row(packed):
    _, layout, labels, output = packed
    found = Scores.of(output, layout, labels)
    torch.testing.assert_close(found.per_segment(), found.segment_sums)
    torch.testing.assert_close(found.per_segment().sum(1), found.per_sample().sum(1))
    written = found.log_probs[found.step >= 0].sum()
    torch.testing.assert_close(found.step_sums.sum(), written)


def test_targets_of_no_weight_do_not_count(packed):
    _, layout, labels, output = packed
    silent = layout.step >= 0
    found = Scores.of(output, layout, labels, torch.ones(labels.shape).masked_fill(silent, 0.0))
    assert not (found.targets & silent).any()
    torch.testing.assert_close(found.per_sample().sum(), found.log_probs[~silent].sum())


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("nonsense", {}, "unknown objective 'nonsense': registered are cross_entropy, dpo"),
        ("dpo", {"gamma": 1}, "unexpected keyword argument 'gamma'"),
        ("dpo", {"beta": 0}, "beta must be positive, got 0"),
        ("dpo", {"beta": "much"}, "objective 'dpo'"),
    ],
)
def test_a_bad_choice_is_one_line(name, options, words):
    with pytest.raises(ValueError, match=words) as error:
        build_objective(name, options)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_gives_a_finite_loss_with_gradient(name, packed):
    _, layout, labels, output = packed
    log_probs = output.log_probs.detach().expand(2, -1).clone().requires_grad_()
    layout = two_rows(layout)
    both = {"log_probs": log_probs, "segment_sums": output.segment_sums, "step_sums": output.step_sums}
    policy = Scores.of(both, layout, labels.expand(2, -1))
    objective = build_objective(name)
    batch = objective.prepare({"rows": 2, "input_ids": labels.expand(2, -1)}, Progress())
    reference = policy if objective.needs_reference else None
    found = objective.loss(policy, reference, batch)
    found.loss.backward()
    assert found.loss.isfinite()
    assert found.loss.ndim == 0
    assert all(value.ndim == 0 and not value.requires_grad for value in found.logs.values())


def two_rows(layout: Layout) -> Layout:
    """The layout of one row twice."""

    twice = {name: getattr(layout, name).expand(2, -1) for name in ("predicted", "step")}
    return replace(layout, index=layout.index.map(lambda field: field.expand(2, -1)), **twice)
