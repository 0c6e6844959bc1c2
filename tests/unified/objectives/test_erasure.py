"""Concept erasure: windows, thresholds and the objective."""

import pytest
import torch

from unified.objectives import Scores, build_objective
from unified.objectives.erasure import Window, erasure_target, windowed


def scores(log_probs, targets):
    zeros = torch.zeros(log_probs.shape, dtype=torch.long)
    return Scores(
        log_probs=log_probs,
        targets=targets,
        weights=targets.float(),
        segment_sums=log_probs.sum(dim=1, keepdim=True),
        step_sums=log_probs.sum(dim=1)[:, None, None],
        sample=zeros,
        segment=zeros,
        step=zeros,
    )


@pytest.fixture
def given():
    """Two pairs of rows; the rows of a pair have prompts of different lengths."""
    rng = torch.Generator().manual_seed(0)
    targets = torch.zeros(4, 12, dtype=torch.bool)
    for row, start in enumerate((2, 4, 3, 1)):
        targets[row, start : start + 7] = True
    policy, reference = (-torch.rand(2, 4, 12, generator=rng) * targets).unbind(0)
    return policy.requires_grad_(), reference, targets


def errors(policy, reference, targets, eta):
    """Of every code of each pair, in plain arithmetic."""
    found = []
    for row in (0, 2):
        concept, neutral = reference[row][targets[row]], reference[row + 1][targets[row + 1]]
        found.append((policy[row][targets[row]] - (neutral - eta * (concept - neutral))) ** 2)
    return found


def test_window_1_with_threshold_0_is_the_plain_mean(given):
    policy, reference, targets = given
    objective = build_objective("erasure", {"window": 1, "threshold": 0.0, "eta": 0.7})
    made = objective.loss(scores(policy, targets), scores(reference, targets), {})
    want = torch.cat(errors(policy, reference, targets, 0.7)).mean()
    torch.testing.assert_close(made.loss, want)
    got = torch.autograd.grad(made.loss, policy, retain_graph=True)[0]
    torch.testing.assert_close(got, torch.autograd.grad(want, policy)[0])
    assert not got[1].any()  # rows without the concept are not trained
    assert float(made.logs["kept"]) == 1


@pytest.mark.parametrize("window", [2, 3, 7, 50])
def test_windows_up_to_the_threshold_are_left_out(given, window):
    policy, reference, targets = given
    threshold = 0.3 * window
    options = {"window": window, "threshold": threshold}
    made = build_objective("erasure", options).loss(scores(policy, targets), scores(reference, targets), {})
    total, kept, count = 0.0, 0, 0
    for losses in errors(policy, reference, targets, 1.0):
        for start in range(0, 7, window):
            part = losses[start : start + window]
            count += 1
            if float(part.detach().sum()) > threshold * len(part) / window:
                total, kept = total + float(part.detach().sum()), kept + 1
    assert float(made.loss) == pytest.approx(total / 14, abs=1e-6)
    assert float(made.logs["kept"]) == pytest.approx(kept / count)


def test_windows_of_single_losses_are_those_of_all_at_once():
    losses = torch.rand(12, generator=torch.Generator().manual_seed(3))
    window, sums = Window(4, 1.9), []
    for loss in losses:
        total = window.add(loss)
        if total is not None:
            sums.append(total)
    assert len(sums) == 3
    kept = [float(total) for total in sums if window.steps(total)]
    found = windowed(losses, 4, 1.9)
    assert 0 < len(kept) < 3
    assert (found.kept, found.windows) == (len(kept), 3)
    assert float(found.total) == pytest.approx(sum(kept))


def test_without_eta_the_target_is_the_other_prompt():
    concept, neutral = torch.randn(2, 5)
    assert torch.equal(erasure_target(concept, neutral, neutral, 0.0), neutral)
    torch.testing.assert_close(erasure_target(concept, neutral, neutral, 1.0), 2 * neutral - concept)


def test_pairs_that_differ_and_settings_out_of_range_are_one_line(given):
    policy, reference, targets = given
    targets[1, 4] = False
    with pytest.raises(ValueError, match="equally many targets"):
        build_objective("erasure").loss(scores(policy, targets), scores(reference, targets), {})
    with pytest.raises(ValueError, match="reference"):
        build_objective("erasure").loss(scores(policy, targets), None, {})
    for wrong in ({"window": 0}, {"threshold": -1.0}, {"eta": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            build_objective("erasure", wrong)
