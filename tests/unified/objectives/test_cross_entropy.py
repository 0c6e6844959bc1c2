"""Cross-entropy is the loss that the trainer had before objectives were parts."""

import torch

from unified.objectives import CrossEntropy, Scores


def scores(log_probs, weights) -> Scores:
    zeros = torch.zeros(log_probs.shape, dtype=torch.long)
    nothing = log_probs.new_zeros(len(log_probs), 1)
    return Scores(
        log_probs=log_probs,
        targets=weights > 0,
        weights=weights,
        segment_sums=nothing,
        step_sums=nothing[..., None],
        sample=zeros,
        segment=zeros,
        step=zeros - 1,
    )


def test_it_is_the_weighted_sum_by_row_to_the_last_bit():
    rng = torch.Generator().manual_seed(0)
    log_probs = -torch.rand(3, 50, generator=rng) * 5
    weights = torch.rand(3, 50, generator=rng) * (torch.rand(3, 50, generator=rng) < 0.5)
    found = CrossEntropy().loss(scores(log_probs, weights), None, {"rows": 2})
    assert torch.equal(found.loss, (-log_probs * weights).sum() / 2)  # a third, silent row may be there
    assert not found.logs


def test_with_equal_weights_that_add_up_to_the_rows_it_is_the_models_own_loss(model, stream):
    from unified.layout.layout import IGNORED, Layout

    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    ids = torch.tensor([stream.encode(talk)])
    layout = Layout.of(ids, model.vocabulary)
    labels = layout.labels(ids)
    output = model(ids, labels=labels)
    policy = Scores.of(output, layout, labels, (labels != IGNORED) / (labels != IGNORED).sum())
    torch.testing.assert_close(CrossEntropy().loss(policy, None, {"rows": 1}).loss, output.loss)
