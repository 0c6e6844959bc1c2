"""Relaxed acceptance of drafted codes: the rule against plain arithmetic, and in sessions."""

import pytest
import torch

from unified.decoding.guidance import Constant
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import STRATEGIES, Lantern, Shallow, Speculative, build_strategy
from unified.decoding.strategies.draft_tree import DraftTree
from unified.decoding.strategies.rejection import exact
from unified.decoding.strategies.relaxation import Relaxed, credit, neighbour_table, reshaped

RANDOM = Sampler(temperature=0.9, top_k=20)


class Tilted(Shallow):
    """A draft that is often wrong."""

    def image(self, *arguments):
        return [0.3 * states for states in super().image(*arguments)]


class Blurred(Shallow):
    """A draft with noise."""

    def image(self, session, chunk, rows, plan, step):
        rng = torch.Generator().manual_seed(step)
        found = super().image(session, chunk, rows, plan, step)
        return [states + 0.5 * torch.randn(states.shape, generator=rng) for states in found]


def codebook(size, seed=0):
    return torch.randn(size, 3, generator=torch.Generator().manual_seed(seed))


def laws(count, size, seed=0):
    """p, q and what was drafted, for `count` codes."""
    rng = torch.Generator().manual_seed(seed)
    p, q = (torch.randn(1, count, 1, size, generator=rng).mul(1.5).softmax(dim=-1) for _ in range(2))
    drafted = torch.multinomial(q.view(count, size), 1, generator=rng).view(1, count, 1)
    return p, q, drafted


# The rule ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "count"), [(9, None), (30, 4), (5, 100)])
def test_neighbours_are_the_nearest_other_codes(size, count):
    vectors = codebook(size)
    table = neighbour_table(vectors, count)
    assert table.shape == (size, min(count or size - 1, size - 1))
    for code in range(size):
        others = sorted((float((vectors[code] - vectors[n]).norm()), n) for n in range(size) if n != code)
        assert table[code].tolist() == [n for _, n in others[: table.shape[1]]]


@pytest.mark.parametrize(
    ("delta", "multiplicative"), [(0.0, False), (0.15, False), (1.0, False), (1.0, True), (2.5, True)]
)
def test_credit_is_the_largest_sum_of_neighbours_within_the_bound(delta, multiplicative):
    p, _, drafted = laws(40, 12)
    table = neighbour_table(codebook(12), 7)
    near = table[drafted]
    found = credit(p, drafted, near, delta, multiplicative=multiplicative)
    changed = reshaped(p, drafted, near, found)
    for n in range(40):
        law, x = p[0, n, 0], int(drafted[0, n, 0])
        bound = (delta - 1) * float(law[x]) if multiplicative else delta
        want, total, count = law.clone(), 0.0, 0
        for neighbour in table[x].tolist():
            if total + float(law[neighbour]) > bound:
                break
            total, count = total + float(law[neighbour]), count + 1
            want[neighbour] = 0
        want[x] += total
        assert int(found.count[0, n, 0]) == count
        torch.testing.assert_close(changed[0, n, 0], want, atol=1e-6, rtol=0)
        assert abs(float(changed[0, n, 0].sum()) - 1) < 1e-5
        assert float((changed[0, n, 0] - law).clamp(min=0).sum()) <= bound + 1e-6  # total variation


def test_a_bound_of_nothing_is_plain_speculative_sampling():
    noise, places = PositionNoise([3]), torch.arange(60)[None]
    p, q, drafted = laws(60, 12)
    want = exact(p, q, drafted, noise, places, None)
    assert 0.1 < want.accepted.float().mean() < 0.9
    for options in ({"delta": 0.0}, {"delta": 1.0, "multiplicative": True}):
        got = Relaxed(neighbours=neighbour_table(codebook(12)), **options)(p, q, drafted, noise, places, None)
        assert torch.equal(got.symbols, want.symbols)
        assert torch.equal(got.accepted, want.accepted)


def test_more_is_accepted_with_a_larger_bound():
    noise, places = PositionNoise([3]), torch.arange(400)[None]
    table = neighbour_table(codebook(12))
    shares = []
    for delta in (0.0, 0.1, 0.3, 0.6):
        verdict = Relaxed(neighbours=table, delta=delta)(*laws(400, 12), noise, places, None)
        shares.append(float(verdict.accepted.float().mean()))
    assert shares == sorted(shares)
    assert shares[-1] > shares[0] + 0.1


def test_the_law_of_one_code_is_that_of_the_formula():
    """Of all drafted codes with their probabilities, against the share of what is drawn."""
    size, count, delta = 6, 40000, 0.2
    p, q, _ = laws(1, size, seed=4)
    table = neighbour_table(codebook(size))
    expected = torch.zeros(size)
    for x in range(size):
        token = torch.tensor(x)
        law = reshaped(
            p[0, 0, 0], token, table[x], credit(p[0, 0, 0], token, table[x], delta, multiplicative=False)
        )
        accept = min(1.0, float(law[x] / q[0, 0, 0, x]))
        rest = (law - q[0, 0, 0]).clamp(min=0)
        expected += q[0, 0, 0, x] * (1 - accept) * rest / rest.sum()
        expected[x] += q[0, 0, 0, x] * accept
    rng = torch.Generator().manual_seed(1)
    drafted = torch.multinomial(q.flatten(), count, replacement=True, generator=rng).view(1, count, 1)
    both = (law.expand(1, count, 1, size) for law in (p, q))
    places = torch.arange(count)[None]
    verdict = Relaxed(neighbours=table, delta=delta)(*both, drafted, PositionNoise([2]), places, None)
    shares = verdict.symbols.flatten().bincount(minlength=size) / count
    torch.testing.assert_close(shares, expected, atol=0.01, rtol=0)
    assert float((expected - p.flatten()).abs().sum() / 2) > 0.05  # the bias is no rounding


# In sessions ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(make_model):
    return make_model({"orders": ["raster", "diagonal"]})


def drawn(model, strategy, sampler=RANDOM, order="raster", guidance=None, rows=3):
    words = model.vocabulary
    session = Session(model, rows=rows, seed=5, strategy=strategy)
    session.feed([[words.begin, words.user, 3 + n, words.end, words.assistant] for n in range(rows)])
    return session.draw([(3, 4)], order=order, sampler=sampler, guidance=guidance), session


@pytest.mark.parametrize("order", ["raster", "diagonal"])
@pytest.mark.parametrize("guidance", [None, Constant(2.0)], ids=["plain", "guided"])
def test_a_delta_of_0_draws_what_speculative_sampling_draws(model, order, guidance):
    size = model.vocabulary.visual
    one, _ = drawn(model, Speculative(draft=Tilted(), length=3), RANDOM, order, guidance)
    for options in ({"delta": 0.0}, {"delta": 1.0, "multiplicative": True}):
        lantern = STRATEGIES["lantern"](codebook=codebook(size), draft=Tilted(), length=3, **options)
        other, _ = drawn(model, lantern, RANDOM, order, guidance)
        assert torch.equal(one.codes, other.codes)
        assert torch.equal(one.log_probs, other.log_probs)


@pytest.mark.parametrize("sampler", [RANDOM, Sampler(temperature=0)], ids=["sampled", "greedy"])
def test_relaxed_drafts_save_passes(model, sampler):
    vectors = codebook(model.vocabulary.visual)
    passes = []
    for delta in (0.0, 1.0):
        strategy = Lantern(codebook=vectors, draft=Blurred(), length=3, delta=delta)
        drawing, session = drawn(model, strategy, sampler)
        assert int(drawing.codes.min()) >= 0
        passes.append(session.stats.passes)
    assert passes[1] < passes[0] <= 12


def test_text_is_verified_exactly(model):
    words = model.vocabulary
    said = []
    for strategy in (Speculative(length=3), Lantern(codebook=codebook(words.visual), delta=1.0, length=3)):
        session = Session(model, seed=2, strategy=strategy)
        session.feed([words.begin, words.user, 7, words.end, words.assistant])
        said.append(list(session.text(sampler=RANDOM, max_tokens=6, draw=False)))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"delta": -0.1}, "additive delta"),
        ({"delta": 1.5}, "additive delta"),
        ({"delta": 0.5, "multiplicative": True}, "multiplicative delta"),
        ({"nearest": 0}, "nearest >= 1"),
        ({"codebook": torch.zeros(3)}, "codebook"),
        ({"length": 0}, "at least one token"),
    ],
)
def test_bad_settings_are_one_line(options, reason):
    with pytest.raises(ValueError, match=reason) as error:
        Lantern(**{"codebook": codebook(5), **options})
    assert "\n" not in str(error.value)


def test_strategies_are_chosen_by_name(model):
    assert isinstance(build_strategy("lantern", codebook(4)), Lantern)
    assert Session(model, strategy="speculative").strategy == Speculative()
    for name, reason in (("lantern", "codebook"), ("fast", "unknown strategy 'fast'")):
        with pytest.raises(ValueError, match=reason):
            Session(model, strategy=name)


def test_another_tokenizers_codebook_is_refused(model):
    with pytest.raises(ValueError, match="do not fit codes"):
        drawn(model, Lantern(codebook=codebook(5), draft=Tilted()))


# Trees ------------------------------------------------------------------------------------------------------


def test_the_index_tensors_of_a_tree():
    tree = DraftTree.of([[1], [0], [0, 2], [0, 0], [1, 0], [0, 2, 1]], ranks=3)
    assert tree.nodes == ((), (0,), (1,), (0, 0), (0, 2), (1, 0), (0, 2, 1))
    assert tree.inner == [0, 1, 2, 4]
    assert tree.leaf_paths.tolist() == [[0, 1, 3, -1], [0, 1, 4, 6], [0, 2, 5, -1]]
    assert tree.table_index.tolist() == [0, 1, 2, 4, 6, 7, 11]
    assert tree.attention[6].nonzero()[:, 0].tolist() == [0, 1, 4, 6]
    assert tree.siblings(4) == [3]
    assert tree.siblings(5) == []


@pytest.mark.parametrize("choices", [[], [[0, 0]], [[0], [0]], [[7]], [[0], []]])
def test_no_tree_is_refused(choices):
    with pytest.raises(ValueError, match="tree"):
        DraftTree.of(choices, ranks=3)
