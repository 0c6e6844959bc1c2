"""Attention selectivity against plain loops, and budgets made from it."""

import pytest
import torch

from unified.cache.policy import Full
from unified.cache.scalekv import ScaleKV, Selector, shared_budgets
from unified.cache.selectivity import Profiler, drafters, selectivity
from unified.decoding.guidance import Constant
from unified.decoding.session import Session

SIDES = (1, 2, 3, 4, 6)
LENGTHS = [side**2 for side in SIDES]


def test_selectivity_is_attention_on_the_map_times_concentration_on_history():
    rng = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(2, 4, 5, 8, generator=rng), torch.randn(2, 2, 17, 8, generator=rng)
    found = selectivity(queries, keys, top=3)
    for row in range(2):
        current, share = [], []
        for head in range(4):
            for query in queries[row, head]:
                attention = (keys[row, head // 2] @ query / 8**0.5).softmax(0)
                past = attention[:12].sort(descending=True).values
                current.append(attention[12:].sum())
                share.append(past[:3].sum() / past.sum())
        expected = torch.stack(current).mean() * torch.stack(share).mean()
        torch.testing.assert_close(found[row], expected)


def test_many_queries_are_taken_in_parts():
    rng = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(1, 1, 300, 4, generator=rng), torch.randn(1, 1, 310, 4, generator=rng)
    parts = [selectivity(queries.roll(shift, 2), keys, 2) for shift in (0, 100)]
    torch.testing.assert_close(parts[0], parts[1])


def test_a_layer_that_attends_to_its_map_and_a_few_others_is_more_selective():
    keys = torch.eye(12)[None, None] * 20
    sharp, flat = keys[:, :, 8:] + 0.9 * keys[:, :, :1], torch.zeros(1, 1, 4, 12)
    assert selectivity(sharp, keys, 2) > 0.9
    assert selectivity(flat, keys, 2) == pytest.approx(4 / 12 * 2 / 8)


def test_nothing_before_the_step_is_refused():
    with pytest.raises(ValueError, match="4 keys in all"):
        selectivity(torch.zeros(1, 1, 4, 8), torch.zeros(1, 1, 4, 8), 2)
    with pytest.raises(ValueError, match="draw an image"):
        Profiler().table()


def test_drafters_have_the_lowest_scores_of_their_step():
    table = torch.tensor([[torch.nan, 0.1, 0.9], [torch.nan, 0.2, 0.2], [torch.nan, 0.3, 0.85]])
    assert drafters(table, 2, [1, 2]) == {1: {0}, 2: {1}}
    assert drafters(table, 1, [1, 2]) == {1: set(), 2: {1}}
    assert drafters(table, 3, [2]) == {2: {0, 1, 2}}
    with pytest.raises(ValueError, match="not measured"):
        drafters(table, 1, [0, 1])
    with pytest.raises(ValueError, match="0 to 3 pairs"):
        drafters(table, 4, [1])


def test_a_session_is_measured_and_then_compressed(model, stream):
    """Measuring changes nothing; what it gives is a policy's budgets."""
    prompts = [stream.encode([{"role": "user", "content": text}], prompt=True) for text in ("a cat", "x")]
    profiler, drawn = Profiler(top=4), []
    for policy in (Full(), profiler):
        session = Session(model, rows=2, seed=3, policy=policy)
        session.feed(prompts)
        drawn.append(session.draw(SIDES, guidance=Constant(2.0)))
    assert torch.equal(drawn[0].log_probs, drawn[1].log_probs)
    table = profiler.table()
    assert table.shape == (2, 5)
    assert table[:, 0].isnan().all()
    assert ((table[:, 1:] > 0) & (table[:, 1:] < 1)).all()
    assert len(profiler.found[0, 1]) == 4, "two rows and their null branch"
    budgets = shared_budgets(LENGTHS, 2, drafters(table, 2, [3, 4]), mean=12, refiner=6)
    session = Session(
        model, seed=3, policy=ScaleKV(budgets=budgets, capacity=12, selector=Selector(window=4))
    )
    session.feed(prompts[0])
    session.draw(SIDES)
    assert session.context.cache.length < 200
