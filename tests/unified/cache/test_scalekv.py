"""ScaleKV: the rule against plain loops, budgets, and sessions whose images are compressed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unified.cache.held import Held
from unified.cache.policy import DropWrite
from unified.cache.scalekv import (
    PAPER,
    RELEASE,
    Budget,
    ScaleKV,
    Selector,
    observers,
    released_budgets,
    shared_budgets,
    step_shape,
)
from unified.decoding.guidance import Constant
from unified.decoding.session import Session
from unified.orders import plan_for

SIDES = (1, 2, 3, 4, 6)
LENGTHS = [side**2 for side in SIDES]
BUDGETS = shared_budgets(LENGTHS, 2, {3: [0], 4: [0]}, mean=12, refiner=6)
POLICY = ScaleKV(budgets=BUDGETS, capacity=12, selector=Selector(window=4, kernel=3))
PROMPTS = ("draw a cat", "x")

# Which entries --------------------------------------------------------------------------------------------


def by_hand(queries, keys, seeing, selector):
    """Pooled scores [K] of one head of keys [K, D] by loops; observers -inf. queries [H, n, D]."""
    length, count = len(keys), queries.shape[1]
    total = torch.zeros(length)
    for head in queries:
        for place in seeing:
            if place >= length - count:
                row = (
                    torch.stack([head[place - (length - count)] @ key for key in keys]) / keys.shape[1] ** 0.5
                )
                total += row.softmax(0) if selector.scores == "attention" else row
    total[seeing] = -torch.inf
    reach, pooled = selector.kernel // 2, torch.full((length,), -torch.inf)
    for place in range(length):
        near = total[max(place - reach, 0) : place + reach + 1]
        pooled[place] = near.max() if selector.pooling == "max" else near.sum() / selector.kernel
    pooled[seeing] = -torch.inf
    return pooled


@pytest.mark.parametrize("scores", ["attention", "logits"])
@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize(("shape", "before"), [((4, 4), 20), ((3, 6), 30), (None, 25), ((1, 5), 30)])
def test_the_best_of_each_head_stay_beside_the_observers(scores, pooling, shape, before):
    selector = Selector(window=4, kernel=3, scores=scores, pooling=pooling)
    rng, count = torch.Generator().manual_seed(before), shape[0] * shape[1] if shape else 3
    queries = torch.randn(2, 4, count, 8, generator=rng)
    keys = torch.randn(2, 2, before + count, 8, generator=rng)
    kept = selector.kept(queries, keys, shape, 14)
    assert kept.shape == (2, 2, 14)
    seeing = observers(before + count, count, shape, 4)
    for row in range(2):
        for group in range(2):
            places = kept[row, group].tolist()
            assert places == sorted(set(places))
            assert set(seeing.tolist()) <= set(places)
            pooled = by_hand(queries[row, 2 * group : 2 * group + 2], keys[row, group], seeing, selector)
            best = pooled.sort(descending=True).values[:10]
            chosen = pooled[sorted(set(places) - set(seeing.tolist()))].sort(descending=True).values
            torch.testing.assert_close(chosen, best)


def test_heads_keep_different_entries():
    rng = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(1, 2, 4, 8, generator=rng), torch.randn(1, 2, 60, 8, generator=rng)
    kept = RELEASE.kept(queries, keys, (2, 2), 20)
    assert not torch.equal(kept[0, 0], kept[0, 1])


@pytest.mark.parametrize("budget", [1, 4])
def test_observers_stay_even_if_they_are_more_than_the_budget(budget):
    kept = Selector(window=4).kept(torch.randn(1, 1, 16, 8), torch.randn(1, 1, 20, 8), (4, 4), budget)
    assert kept.tolist() == [[[4 + 0, 4 + 2, 4 + 8, 4 + 10]]]


def test_averages_leave_the_neighbours_of_observers_for_last():
    """Among 8 entries whose last 2 observe, an average is finite at the first 4 alone."""
    queries, keys = torch.randn(1, 1, 2, 4), torch.randn(1, 1, 8, 4)
    selector = Selector(window=2, kernel=5)
    assert selector.kept(queries, keys, None, 6).tolist() == [[[0, 1, 2, 3, 6, 7]]]
    assert set(selector.kept(queries, keys, None, 7)[0, 0].tolist()) > {0, 1, 2, 3, 6, 7}


def test_where_averages_run_out_the_release_names_observers_again_and_we_never_do():
    """Two of 8 entries are the neighbours of observers, and score -inf as those do."""
    queries, keys = torch.randn(1, 1, 2, 4), torch.randn(1, 1, 8, 4)
    released = Selector(window=2, kernel=5, repeats=True).kept(queries, keys, None, 8)
    assert released.shape == (1, 1, 8)
    assert set(released[0, 0].tolist()) >= {0, 1, 2, 3, 6, 7}
    assert Selector(window=2, kernel=5).kept(queries, keys, None, 8).tolist() == [[[*range(8)]]]


def test_observers_are_the_centres_of_patches():
    assert observers(109, 9, (3, 3), 9).tolist() == list(range(100, 109))
    assert (observers(136, 36, (6, 6), 9) - 100).tolist() == [0, 2, 4, 12, 14, 16, 24, 26, 28]
    assert (observers(181, 81, (9, 9), 9) - 100).tolist() == [10, 13, 16, 37, 40, 43, 64, 67, 70]
    assert observers(18, 18, (3, 6), 9).tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    for shape, window in (((2, 9), 9), (None, 9), ((6, 6), 8)):
        assert observers(40, 18, shape, window).tolist() == list(range(40 - window, 40))
    assert observers(3, 1, (1, 1), 9).tolist() == [0, 1, 2]


def test_the_grid_of_a_step_is_that_of_its_whole_map():
    plan = plan_for("next_scale", ((1, 1), (2, 4), (4, 6)))
    assert step_shape(plan, 1, 8) == (2, 4)
    assert step_shape(plan, 2, 24) == (4, 6)
    assert step_shape(plan, 2, 6) == (2, 3), "every 2 x 2 codes share a position"
    assert step_shape(plan_for("raster", ((2, 3),)), 3, 1) is None
    assert step_shape(plan_for("diagonal", ((3, 3),)), 2, 3) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kernel": 4}, "kernel of 4"),
        ({"window": 0}, "window of 0"),
        ({"pooling": "avgpool"}, "one of average, max, got 'avgpool'"),
        ({"scores": "queries"}, "one of attention, logits"),
    ],
)
def test_rules_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Selector(**options)


# Budgets --------------------------------------------------------------------------------------------------


RELEASED = [side**2 for side in (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)]


def test_the_released_tables_come_out():
    two, eight = dict.fromkeys(range(8, 12), (0, 23)) | {12: (0,)}, dict.fromkeys(range(8, 13), (0, 1, 2))
    found = shared_budgets(RELEASED, 32, two, mean=650, refiner=200)
    assert [(b.drafter, b.refiner) for b in found.values()] == [
        (920, 632), (1490, 594), (2510, 526), (4100, 420), (6385, 465)
    ]  # fmt: skip
    assert list(found) == [8, 9, 10, 11, 12]
    found = shared_budgets(RELEASED, 40, eight, mean=650, refiner=200)
    assert [(b.drafter, b.refiner) for b in found.values()] == [
        (909, 629), (1464, 584), (2463, 503), (4054, 374), (6200, 200)
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_refiners_release_goes_to_drafters_at_an_equal_total(data):
    layers = data.draw(st.integers(1, 12))
    of_layers = st.frozensets(st.integers(0, layers - 1))
    drafters = data.draw(st.fixed_dictionaries({step: of_layers for step in range(6, 13)}))
    mean, shrink = data.draw(st.integers(120, 650)), data.draw(st.integers(0, 10))
    found = shared_budgets(RELEASED, layers, drafters, mean=mean, refiner=mean - 20, shrink=shrink)
    assert found
    assert all(budget.total(layers) == mean * layers for budget in found.values())
    for number, (step, budget) in enumerate(found.items()):
        assert sum(RELEASED[:step]) > mean
        if 0 < len(budget.drafters) < layers:
            assert budget.drafter >= mean >= budget.refiner >= mean - 20 - shrink * number


def test_a_released_file_is_read():
    entry = {"Block 0": 1, "Block 1": 0, "Block 2": 0, "High": 1, "Max": 920, "Min": 515, "Limit": 921}
    assert released_budgets({"Scale 9": entry}) == {
        8: Budget(drafter=920, refiner=515, drafters=frozenset({0}))
    }
    with pytest.raises(ValueError, match="at least 1 code, got 920 and 0"):
        released_budgets({"Scale 9": entry | {"Min": 0}})


# Sessions -------------------------------------------------------------------------------------------------


class Spy:
    """A policy that remembers what it was shown and what it answered."""

    def __init__(self, policy):
        self.policy, self.keeps_writes, self.by_step = policy, policy.keeps_writes, policy.by_step
        self.seen = []

    def stays(self, held: Held):
        answer = self.policy.stays(held)
        if held.plan is not None:
            self.seen.append((replace(held, keys=held.keys.clone(), lengths=held.lengths.copy()), answer))
        return answer


def opened(model, stream, policy=POLICY, rows=2):
    session = Session(model, rows=rows, seed=5, policy=policy)
    session.feed([stream.encode([{"role": "user", "content": text}], prompt=True) for text in PROMPTS[:rows]])
    return session


def test_layers_hold_what_the_table_says(model, stream):
    """The mean of all layers too, and as many bytes; what was read before stays whole."""
    session = opened(model, stream)
    session.read_pending()
    cache, words = session.context.cache, session.vocabulary
    header = len(words.open_write("next_scale", tuple((side, side) for side in SIDES)))
    for choice in session.image(SIDES, guidance=Constant(2.0)):
        read = cache.lengths * 0 + header
        read[:2] += [len(row) for row in session.streams]
        read[2:] += [row.null_read for row in session.rows]
        own = np.stack([entries.lengths - read for entries in cache.entries])  # [layers, R]
        table = BUDGETS.get(min(choice.step + 1, len(SIDES) - 1)) if choice.step > 1 else None
        expected = [table.of(layer) if table else sum(LENGTHS[: choice.step + 1]) for layer in range(2)]
        assert (own == np.array(expected)[:, None]).all()
        held = sum(int(entries.lengths.sum()) for entries in cache.entries)
        assert cache.nbytes() == held * 2 * 2 * 16 * 4  # keys and values of 2 heads of 16 floats
        if table:
            assert own.mean() == 12
    assert [entries.lengths.tolist() for entries in cache.distinct()] == [(read - header).tolist()]


@pytest.mark.parametrize("guidance", [None, Constant(2.0)], ids=["plain", "guided"])
def test_each_row_keeps_its_own_best_and_all_that_is_not_its_image(model, stream, guidance):
    spy = Spy(replace(POLICY, selector=replace(POLICY.selector, pooling="max")))
    opened(model, stream, spy).draw(SIDES, guidance=guidance)
    compressed = [(held, answer) for held, answer in spy.seen if answer is not None]
    assert {(held.layer, held.step) for held, _ in compressed} >= {(0, 3), (1, 2), (1, 3), (1, 4)}
    for held, answer in compressed:
        budget = POLICY.budget(held.plan, held.step, held.layer)
        for row, length in enumerate(held.lengths):
            count = len(held.plan.steps[held.step].run) + (budget_before(held) or 0)
            assert answer[row, : length - count].all()
            queries = held.queries[row : row + 1]
            keys = held.keys[row : row + 1, length - count : length].transpose(1, 2)
            shape = held.plan.shapes[held.step]
            kept = spy.policy.selector.kept(queries, keys, shape, budget)[0]
            marked = [answer[row, length - count : length, head].nonzero()[0].tolist() for head in range(2)]
            assert marked == kept.tolist()


def budget_before(held):
    """Codes that the layer held when the step began."""
    written = sum(LENGTHS[: held.step])
    earlier = BUDGETS.get(held.step)
    return min(written, earlier.of(held.layer)) if earlier else written


def test_what_goes_changes_the_image(model, stream):
    whole, less = (opened(model, stream, policy).draw(SIDES) for policy in (DropWrite(), POLICY))
    seen = sum(LENGTHS[:3])  # up to here nothing had gone
    assert torch.equal(whole.codes[:, :seen], less.codes[:, :seen])
    assert not torch.equal(whole.log_probs[:, seen:], less.log_probs[:, seen:])


def test_what_is_said_after_a_compressed_image_is_as_ever(model, stream):
    codes = torch.randint(
        model.vocabulary.visual, (2, sum(LENGTHS)), generator=torch.Generator().manual_seed(1)
    )

    def given_codes(choice):
        return replace(choice, codes=codes[:, choice.slots])

    found = []
    for policy in (DropWrite(), POLICY):
        session = opened(model, stream, policy)
        session.draw(SIDES, guidance=Constant(2.0), hook=given_codes)
        said = list(session.text(max_tokens=4, draw=False))
        found.append((said, session.action().tolist(), session.last, session.context.cache))
    assert found[0][:2] == found[1][:2]
    torch.testing.assert_close(found[0][2], found[1][2], atol=1e-5, rtol=0)
    assert found[0][3].nbytes() == found[1][3].nbytes()
    assert len(found[1][3].distinct()) == 1


def test_an_image_that_is_broken_off_leaves_the_session_as_it_was(model, stream):
    session, other = opened(model, stream), opened(model, stream)
    for one in (session, other):
        one.draw([1, 2])
        one.read_pending()
    before = session.context.cache.take([0, 1])
    steps = session.image(SIDES, guidance=Constant(2.0))
    for _ in range(4):
        next(steps)
    assert len(session.context.cache.distinct()) == 2
    steps.close()
    cache = session.context.cache
    assert len(cache.distinct()) == 1
    for row, length in enumerate(before.lengths):
        assert cache.lengths[row] == length
        for store, old in zip(cache.stores, before.stores, strict=True):
            assert torch.equal(store.both[:, row, :length], old.both[:, row, :length])
    assert session.streams == other.streams
    again = [one.draw(SIDES, guidance=Constant(2.0)) for one in (session, other)]
    assert torch.equal(again[0].codes, again[1].codes)
    torch.testing.assert_close(again[0].log_probs, again[1].log_probs)


def test_rows_that_do_not_write_lose_nothing(model, stream):
    session = opened(model, stream)
    session.read_pending()
    alone = session.context.cache.take([1])
    for _ in session.image(SIDES, rows=[True, False]):
        length = alone.lengths[0]
        for entries, store, old in zip(
            session.context.cache.entries, session.context.cache.stores, alone.stores, strict=True
        ):
            assert entries.lengths[1] == length
            assert torch.equal(store.both[:, 1, :length], old.both[:, 0, :length])


def test_codes_that_share_positions_are_observed_on_their_grid(make_model, stream):
    model = make_model({"merge": 4})
    budgets = {step: Budget(drafter=9, refiner=9) for step in (3, 4)}
    spy = Spy(ScaleKV(budgets=budgets, capacity=0, selector=Selector(window=4, kernel=3)))
    session = opened(model, stream, spy)
    session.draw(SIDES)
    held, answer = next((held, answer) for held, answer in spy.seen if held.step == 4 and answer is not None)
    assert held.queries.shape[2] == 9
    seeing = held.lengths[0] - 9 + np.array([0, 1, 3, 4])
    assert answer[0, seeing].all()
    assert answer[0].sum(axis=0).tolist() == [held.lengths[0] - (9 + 9) + 9] * 2


def test_a_raster_image_keeps_its_latest_and_its_best(model, stream):
    budgets = {step: Budget(drafter=6, refiner=6) for step in range(20)}
    session = opened(model, stream, ScaleKV(budgets=budgets, capacity=0, selector=Selector(window=4)))
    most = [session.context.cache.lengths.max() for _ in session.image([4], order="raster")]
    assert most[-1] == most[8]
    assert most[8] > most[0]


def test_the_paper_and_the_release_are_two_rules():
    assert (PAPER.scores, PAPER.pooling) == ("attention", "average")
    assert (RELEASE.scores, RELEASE.pooling) == ("logits", "max")
