"""What must hold for every registered head. A new head is picked up by itself."""

import itertools

import pytest
import torch

from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.heads import HEADS, log_prob
from unified.heads.categorical import CategoricalHead


@pytest.fixture(params=HEADS.values(), ids=HEADS.keys())
def head(request):
    torch.manual_seed(0)
    return request.param(12, 16)


def test_codes_and_symbols_round_trip(head):
    codes = torch.arange(16).view(2, 8)
    symbols = head.to_symbols(codes)
    assert symbols.shape == (2, 8, head.symbols)
    assert symbols.max() < head.values
    assert torch.equal(head.to_codes(symbols), codes)


def test_probabilities_of_all_codes_sum_to_one(head):
    logits = head.logits(torch.randn(3, 12))
    assert logits.shape == (3, head.symbols, head.values)
    every = head.to_symbols(torch.arange(16))
    total = sum(log_prob(logits, symbols.expand(3, -1)).exp() for symbols in every)
    torch.testing.assert_close(total, torch.ones(3))


def test_drawing_reports_the_probability_of_the_code(head):
    logits = head.logits(torch.randn(2, 50, 12))
    drawn = Sampler().draw(logits, PositionNoise([0, 1]), torch.arange(50)[None].expand(2, -1))
    torch.testing.assert_close(drawn.log_probs, log_prob(logits, drawn.symbols))


def test_different_codes_are_embedded_differently(head):
    embedded = head.embed(torch.arange(16))
    assert all((a - b).abs().max() > 1e-4 for a, b in itertools.combinations(embedded, 2))


def test_codes_that_are_alike_start_alike():
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(64, 8), dim=-1)
    vectors[1] = vectors[0]
    head = CategoricalHead(256, 64)
    head.start_from(vectors, 0.02)
    for table in (head.embedding.weight, head.projection.weight):
        rows = torch.nn.functional.normalize(table.detach(), dim=-1)
        assert float(rows[0] @ rows[1]) > 0.7
        torch.testing.assert_close(rows @ rows.T, vectors @ vectors.T, atol=0.45, rtol=0)
        assert 0.015 < float(table.detach().std()) < 0.025
