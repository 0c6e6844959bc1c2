"""Filters and guidance: exact against plain definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unified.decoding import pieces, sampling
from unified.decoding.guidance import PLAUSIBLE, CappedRamp, Constant, Ramp, contrasted, guide, needs_null
from unified.decoding.noise import GeneratorNoise, PositionNoise
from unified.decoding.sampling import MANY, WIDE, Sampler
from unified.heads.distribution import Categorical
from unified.orders import plan_for
from unified.orders.shapes import as_shapes


def plain_filter(logits, top_k, top_p):
    """The definition, one row at a time."""
    logits = logits.clone()
    if top_k:
        logits[logits < logits.sort().values[-min(top_k, len(logits))]] = -torch.inf
    if 0 < top_p < 1:
        values, ids = logits.sort()
        gone = values.softmax(0).cumsum(0) <= 1 - top_p
        gone[-1] = False
        logits[ids[gone]] = -torch.inf
    return logits


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 9), st.sampled_from([0.0, 0.3, 0.6, 0.95, 1.0]), st.integers(0, 10_000), st.booleans())
def test_the_filter_is_its_definition(top_k, top_p, seed, ties):
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(seed)) * 2
    logits = logits.round() if ties else logits
    got = Sampler(top_k=top_k, top_p=top_p).filter(logits)
    want = torch.stack([plain_filter(row, top_k, top_p) for row in logits])
    assert torch.equal(got.isinf(), want.isinf()) or (ties and top_p not in (0, 1))  # which tie goes is open
    kept = ~got.isinf()
    assert torch.equal(got[kept], logits[kept])
    assert kept.any(dim=-1).all()


@pytest.mark.parametrize("ties", [False, True])
def test_the_filter_of_many_values_is_that_of_all(ties):
    """Only the largest are sorted where that is enough."""
    logits = torch.randn(6, 1000, generator=torch.Generator().manual_seed(0)) * 3
    logits = logits.round() if ties else logits
    for top_p in (0.0, 0.9):
        got = Sampler(top_k=100, top_p=top_p).filter(logits)
        want = torch.stack([plain_filter(row, 100, top_p) for row in logits])
        assert torch.equal(got.isinf(), want.isinf()) or (ties and top_p)
        assert got.isfinite().sum() >= want.isfinite().sum()


@pytest.mark.parametrize("shape", ["peaked", "flat", "tied", "equal", "single", "broken", "borderline"])
@pytest.mark.parametrize("top_p", [1e-9, 0.3, 0.8, 0.9999999])
def test_top_p_without_a_full_sort_is_top_p_by_one(shape, top_p):
    """Bit for bit: the largest values are sorted only where that is proven to be enough."""
    logits = torch.randn(64, WIDE, generator=torch.Generator().manual_seed(0))
    logits = {
        "peaked": logits * 4,
        "flat": logits / 100,
        "tied": (logits * 2).round(),
        "equal": torch.zeros_like(logits),
        "single": torch.full_like(logits, -torch.inf).index_fill(1, torch.tensor([3]), 1.0),
        "broken": logits.index_fill(1, torch.tensor([5]), torch.nan),
        "borderline": torch.tensor([0.5, 0.3, 0.1, 0.1]).log().repeat(64, WIDE // 4),  # 0.3, 0.8: met exactly
    }[shape]
    assert logits.numel() >= MANY
    ascending = torch.from_numpy(np.sort(logits.numpy(), axis=-1))
    drop = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    drop[:, -1] = False
    floor = ascending.gather(-1, drop.sum(dim=-1, keepdim=True))
    got = Sampler(top_p=top_p).filter(logits)
    assert torch.equal(got.nan_to_num(9), logits.masked_fill(logits < floor, -torch.inf).nan_to_num(9))


def test_only_few_rows_are_sorted_whole(monkeypatch):
    whole = []
    plain = sampling._sorted
    monkeypatch.setattr(sampling, "_sorted", lambda logits: whole.append(len(logits)) or plain(logits))
    Sampler(top_p=0.8).filter(torch.randn(64, 4096, generator=torch.Generator().manual_seed(0)) * 4)
    assert sum(whole) < 8


def test_what_is_drawn_in_pieces_is_what_is_drawn_at_once(monkeypatch):
    logits = torch.randn(3, 50, 2, 40, generator=torch.Generator().manual_seed(0)) * 3
    places, noise, sampler = torch.arange(150).view(3, 50), PositionNoise([1, 2, 3]), Sampler(top_p=0.9)
    whole = sampler.draw(logits, noise, places)
    for module in (pieces, sampling):
        monkeypatch.setattr(module, "PIECE", 1000)
    cut = sampler.draw(logits, noise, places)
    assert torch.equal(cut.symbols, whole.symbols)
    assert torch.equal(cut.log_probs, whole.log_probs)


@pytest.mark.parametrize(
    "noise",
    [PositionNoise([7]), GeneratorNoise(torch.Generator().manual_seed(1))],
    ids=["position", "generator"],
)
def test_draws_follow_the_distribution(noise):
    """Chi-square over 20,000 draws of a filtered distribution; 5 degrees of freedom, p about 1e-4."""
    logits = torch.tensor([1.0, 0.5, 2.0, -1.0, 0.0, 1.5, -4.0])
    sampler = Sampler(temperature=0.8, top_k=6)
    count = 20_000
    places = torch.arange(count)[None]
    drawn = sampler.draw(logits.expand(1, count, 1, 7), noise, places)
    want = sampler.filter(logits[None])[0].softmax(0) * count
    seen = torch.bincount(drawn.symbols.flatten(), minlength=7)
    assert seen[6] == 0
    statistic = ((seen - want) ** 2 / want)[:6].sum()
    assert statistic < 26
    torch.testing.assert_close(drawn.log_probs[0].exp(), (want / count)[drawn.symbols.flatten()])


def test_temperature_zero_takes_the_likeliest():
    logits = torch.randn(2, 3, 1, 5)
    drawn = Sampler(temperature=0).draw(logits, PositionNoise([0, 1]), torch.zeros(2, 3))
    assert torch.equal(drawn.symbols, logits.argmax(-1))


@pytest.mark.parametrize(
    "bad", [{"temperature": -1}, {"temperature": float("nan")}, {"top_k": -1}, {"top_p": 1.5}]
)
def test_bad_samplers_are_refused(bad):
    with pytest.raises(ValueError, match=r"must be a (finite|whole) number"):
        Sampler(**bad)


def test_guidance_weights():
    plan = plan_for("next_scale", as_shapes([1, 2, 4, (20, 4)]))
    assert [Constant(1.5).weight(plan, step) for step in range(4)] == [0.5] * 4
    assert [Ramp(3.0).weight(plan, step) for step in range(4)] == [0, 1, 2, 3]
    assert [CappedRamp(3.0, 16).weight(plan, step) for step in range(4)] == [0, 1, 2, 3]
    assert CappedRamp(3.0, 3).weight(plan, 2) == 3
    long = plan_for("next_scale", as_shapes(range(1, 13)))
    assert CappedRamp(9.0).weight(long, 11) == 11
    assert not needs_null(None, plan)
    assert not needs_null(Constant(1), plan)
    assert needs_null(Ramp(1), plan)
    single = plan_for("next_scale", as_shapes([3]))
    assert not needs_null(Ramp(5), single)


def test_what_is_merely_usual_among_words_is_taken_out():
    seen = torch.log(torch.tensor([[0.5, 0.3, 0.19, 0.01]]))
    found = contrasted(seen, torch.log(torch.tensor([[0.7, 0.1, 0.1, 0.1]])), 1.0)
    assert found.argmax().item() == 1
    torch.testing.assert_close(found[0, :2].exp(), torch.tensor([0.5**2 / 0.7, 0.3**2 / 0.1]))
    assert found[0, 3] == float("-inf")  # less than PLAUSIBLE times the first
    assert 0.01 < PLAUSIBLE * 0.5 < 0.19
    torch.testing.assert_close(contrasted(seen, seen + 3, 1.0)[:, :3], seen[:, :3])
    never = torch.tensor([[0.0, float("-inf")]])
    assert contrasted(never, torch.zeros(1, 2), 1.0)[0, 1] == float("-inf")


def test_guided_logits():
    pair = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    torch.testing.assert_close(guide(Categorical(pair), 1.0, 1).logits, torch.tensor([[3.0, -1.0]]))
