"""The expected distance: zero for what is right, less for what is near, off with a weight of 0."""

import pytest
import torch

from unified.objectives.codebook_distance import CodebookDistance, CodebookDistanceConfig

LINE = torch.arange(5.0)[:, None]


def sure(code):
    return torch.full((1, 5), -50.0).index_fill_(1, torch.tensor([code]), 50.0)


def test_it_is_the_distance_of_what_is_predicted():
    loss = CodebookDistance(LINE)
    mean = torch.cdist(LINE, LINE).mean()
    found = [float(loss(sure(code), torch.tensor([1]))) for code in range(5)]
    assert found == pytest.approx([float(abs(code - 1) / mean) for code in range(5)], abs=1e-6)


def test_it_is_linear_in_the_probabilities():
    logits, codes = torch.randn(7, 5), torch.randint(5, (7,))
    loss = CodebookDistance(LINE)
    wanted = (logits.softmax(-1) * loss.table[codes]).sum(-1).mean()
    torch.testing.assert_close(loss(logits, codes), wanted)


def test_the_size_of_the_codebook_does_not_matter():
    logits, codes = torch.randn(7, 5), torch.randint(5, (7,))
    torch.testing.assert_close(
        CodebookDistance(LINE)(logits, codes), CodebookDistance(9 * LINE)(logits, codes)
    )


def test_a_weight_of_nothing_changes_no_gradient():
    logits = torch.randn(3, 5, requires_grad=True)
    off = CodebookDistance(LINE, CodebookDistanceConfig(weight=0))
    plain = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2]))
    (wanted,) = torch.autograd.grad(plain, logits, retain_graph=True)
    (found,) = torch.autograd.grad(plain + off(logits, torch.tensor([0, 1, 2])), logits)
    assert torch.equal(found, wanted)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="two different codes"):
        CodebookDistance(torch.ones(4, 2))
    with pytest.raises(ValueError, match="logits of 6"):
        CodebookDistance(LINE)(torch.randn(2, 6), torch.tensor([0, 1]))
    assert float(CodebookDistance(LINE)(torch.randn(0, 5), torch.tensor([], dtype=torch.long))) == 0
