"""A subspace of features and what is left without it."""

import pytest
import torch

from unified.readers.subspace import projection, without


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_what_spans_the_features_is_taken_out_and_the_rest_stays():
    directions = torch.linalg.qr(drawn(8, 3))[0].mT  # [3, 8]
    subspace = projection(drawn(20, 3, seed=1) @ directions, 3)
    assert torch.allclose(subspace, directions.mT @ directions, atol=1e-5)
    marks = torch.tensor([True, False, True])
    hidden = drawn(2, 3, 8, seed=2)
    found = without(hidden, marks, subspace)
    assert (found[:, marks] @ directions.mT).abs().max() < 1e-5
    assert torch.equal(found[:, 1], hidden[:, 1])
    assert torch.allclose(without(found, marks, subspace), found, atol=1e-5)
    assert torch.equal(without(hidden, torch.zeros(3, dtype=torch.bool), subspace), hidden)


def test_first_and_last_directions_make_up_the_whole():
    features = drawn(30, 6)
    both = projection(features, 2) + projection(features, 4, least=True)
    assert torch.allclose(both, torch.eye(6), atol=1e-5)


def test_fewer_features_span_fewer_directions():
    assert projection(drawn(2, 6), 5).trace().item() == pytest.approx(2, abs=1e-5)
    with pytest.raises(ValueError, match=r"rank of at least 1, got \(2, 6\) and 0"):
        projection(drawn(2, 6), 0)
