"""Static draft trees as a session's strategy: exact, one pass of the model for a whole tree."""

from collections import Counter

import numpy as np
import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.backbone.layer_pass import Pass
from unified.backbone.windows import near_entries
from unified.cache.kv_cache import KVCache
from unified.cache.policy import Full, Window
from unified.decoding.grounding import MutualInformation
from unified.decoding.guidance import Constant
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import (
    DraftTree,
    FeatureDraft,
    FeatureDrafter,
    Lantern,
    PromptLookup,
    Shallow,
    SmallerModel,
    Speculative,
)
from unified.decoding.strategies.tree_guesses import Guesses, ancestry_of
from unified.decoding.strategies.tree_walk import walk
from unified.decoding.text import allowed_ids
from unified.layout.layout import Cursor, Layout
from unified.stream.messages import Stream

GREEDY, RANDOM = Sampler(temperature=0), Sampler(temperature=0.8, top_k=20)
PROMPTS = ("draw a cat", "x", "a much longer request than the others")
CHAIN, WIDE = DraftTree.wide(1, 1, 1, 1), DraftTree.wide(3, 2)
UNEVEN = DraftTree.of([[0], [1], [2], [0, 0], [0, 1], [1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 1]], ranks=3)
TREES = {"chain": CHAIN, "wide": WIDE, "uneven": UNEVEN}


class Tilted(Shallow):
    """A draft that knows the model and guesses what it finds unlikely."""

    def text_tree(self, session, level):
        return -0.5 * super().text_tree(session, level)

    def image_tree(self, *arguments):
        return [-0.5 * states for states in super().image_tree(*arguments)]


@pytest.fixture(scope="module")
def model(make_model):
    return make_model({"orders": ["raster", "diagonal"]})


@pytest.fixture(scope="module")
def stream(model):
    """Of this model's vocabulary: the fixture that files share is made once, for one of another."""
    return Stream(model.vocabulary, byte_tokenizer())


@pytest.fixture(scope="module")
def other(make_model):
    """The same ids, and different weights."""
    made = make_model({"orders": ["raster", "diagonal"]})
    generator = torch.Generator().manual_seed(4)
    for weight in made.parameters():
        weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
    return made


def draft_of(name, model, other):
    made = {"shallow": Shallow(), "same": Shallow(skipped=()), "lookup": PromptLookup()}
    torch.manual_seed(0)
    made |= {"smaller": SmallerModel(other), "features": FeatureDraft(drafter=FeatureDrafter(model.width))}
    return made[name]


def begun(model, stream, strategy, rows=3, **options):
    session = Session(model, rows=rows, seed=5, strategy=strategy, **options)
    session.feed([stream.encode([{"role": "user", "content": t}], prompt=True) for t in PROMPTS[:rows]])
    return session


def said(session, **options):
    lines = list(session.text(**options))
    return [[line[n] for line in lines if line[n] is not None] for n in range(len(session.rows))]


def held(session):
    return [entries.lengths.tolist() for entries in session.context.cache.entries]


# Temperature 0: the same ids --------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", ["shallow", "same", "lookup", "smaller"])
@pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())
def test_greedy_text_is_that_of_the_default(model, other, stream, tree, draft):
    """Rows of unequal prompts, and the cache is left as the default does."""
    strategy = Speculative(draft=draft_of(draft, model, other), tree=tree)
    sessions = [begun(model, stream, one) for one in (None, strategy)]
    for one in sessions:
        one.draw([(2, 2)], order="raster", sampler=GREEDY)
    options = {"sampler": GREEDY, "max_tokens": 14}
    assert said(sessions[0], **options) == said(sessions[1], **options)
    assert sessions[0].streams == sessions[1].streams
    assert sessions[0].stopped() == sessions[1].stopped()
    for one in sessions:
        one.feed(stream.text.encode("and"))
    assert held(sessions[0]) == held(sessions[1])
    torch.testing.assert_close(sessions[0].last, sessions[1].last, atol=1e-4, rtol=0)


@pytest.mark.parametrize("contrast", [1.5, MutualInformation()], ids=["weight", "m3id"])
def test_contrasted_words_are_numbered_by_their_depth(model, stream, contrast):
    strategy = Speculative(draft=Shallow(skipped=()), tree=UNEVEN)
    sessions = [begun(model, stream, one) for one in (None, strategy)]
    for one in sessions:
        one.draw([(2, 2)], order="raster", sampler=GREEDY)
    options = {"sampler": GREEDY, "max_tokens": 12, "visual_contrast": contrast, "end": False, "draw": False}
    assert said(sessions[0], **options) == said(sessions[1], **options)


@pytest.mark.parametrize("draft", ["shallow", "same", "lookup", "features"])
@pytest.mark.parametrize("guidance", [None, Constant(2.0)], ids=["plain", "guided"])
@pytest.mark.parametrize("order", ["raster", "diagonal"])
def test_greedy_images_are_those_of_the_default(model, other, stream, order, guidance, draft):
    """Of several codes a step (diagonal) no tree is drafted."""
    strategy = Speculative(draft=draft_of(draft, model, other), tree=UNEVEN)
    sessions = [begun(model, stream, one) for one in (None, strategy)]
    steps = [list(one.image([(3, 4)], order=order, sampler=GREEDY, guidance=guidance)) for one in sessions]
    assert sessions[0].streams == sessions[1].streams
    assert held(sessions[0]) == held(sessions[1])
    for one, two in zip(*steps, strict=True):
        assert torch.equal(one.codes, two.codes)
        torch.testing.assert_close(one.logits, two.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        sessions[0].drawing.log_probs, sessions[1].drawing.log_probs, atol=1e-4, rtol=0
    )
    assert said(sessions[0], sampler=GREEDY, max_tokens=4) == said(sessions[1], sampler=GREEDY, max_tokens=4)


@pytest.mark.parametrize("policy", [Full(), Window(24, keep=2)], ids=["full", "window"])
def test_cache_policies_see_what_they_see_by_default(model, stream, policy):
    strategy = Speculative(draft=Shallow(skipped=()), tree=WIDE)
    sessions = [begun(model, stream, one, policy=policy) for one in (None, strategy)]
    for one in sessions:
        said(one, sampler=GREEDY, max_tokens=9, end=False, draw=False)
        one.draw([(2, 3)], order="raster", sampler=GREEDY)
        said(one, sampler=GREEDY, max_tokens=9, end=False, draw=False)
    assert sessions[0].streams == sessions[1].streams
    assert held(sessions[0]) == held(sessions[1])


def test_a_static_cache_without_room_for_a_tree_goes_on_token_by_token(model, stream):
    found = []
    for strategy in (None, Speculative(draft=Shallow(), tree=WIDE)):
        session = Session(model, seed=5, strategy=strategy)
        prompt = stream.encode([{"role": "user", "content": "x"}], prompt=True)
        session.keep_in(model.new_cache(1, len(prompt) + 14, static=True)).feed(prompt)
        found.append(said(session, sampler=GREEDY, max_tokens=13, draw=False, end=False))
    assert found[0] == found[1]


# What it costs ----------------------------------------------------------------------------------------------


def test_one_pass_verifies_a_tree_and_one_drafts_a_level(model, stream):
    session = begun(model, stream, Speculative(draft=Shallow(skipped=()), tree=WIDE))
    said(session, sampler=GREEDY, max_tokens=12, draw=False, end=False)
    stats = session.stats
    assert stats.passes == 4 + 1  # three ids a round, and the last one is read
    assert stats.draft_passes <= 4 * 2
    assert (stats.accepted == 8).all()
    session.draw([(3, 4)], order="raster", sampler=GREEDY)  # 1 + 3 + 3 + 3 + 2 codes
    assert session.stats.passes == 5


def test_siblings_save_passes(model, stream):
    """Of a draft whose second guess is right, a chain accepts nothing."""

    class SecondGuess(Shallow):
        def text_tree(self, session, level):
            allowed = allowed_ids(session, False, False)[:, None]
            return swapped(super().text_tree(session, level).masked_fill(~allowed, float("-inf")))

    passes = {}
    for name, tree in {"chain": DraftTree.wide(1, 1), "wide": DraftTree.wide(2, 2)}.items():
        session = begun(model, stream, Speculative(draft=SecondGuess(skipped=()), tree=tree))
        said(session, sampler=GREEDY, max_tokens=9, draw=False, end=False)
        passes[name] = session.stats.passes
    assert passes == {"chain": 10, "wide": 4}  # the last id is read, too


def swapped(logits):
    """The two largest logits change places."""
    best = logits.topk(2, dim=-1)
    return logits.scatter(-1, best.indices, best.values.flip(-1))


# Distributions ----------------------------------------------------------------------------------------------


def chi_square(counts, probabilities):
    """Of counts [V] against probabilities [V], in standard deviations above its mean."""
    expected = probabilities * counts.sum()
    used = expected > 0
    assert (counts[~used] == 0).all()
    freedom = int(used.sum()) - 1
    statistic = ((counts[used] - expected[used]) ** 2 / expected[used]).sum()
    return (statistic - freedom) / (2 * freedom) ** 0.5


@pytest.mark.parametrize("leaves", [2, 3])
def test_a_tree_of_leaves_turns_the_drafts_law_into_the_models(leaves):
    """And accepts more than one leaf does."""
    rng = torch.Generator().manual_seed(0)
    p, q = (torch.rand(6, generator=rng).pow(2) + 0.02 for _ in range(2))
    p, q, count = p / p.sum(), q / q.sum(), 20000
    noise, tree = PositionNoise(range(count)), DraftTree.wide(leaves)
    places, everywhere = torch.zeros(count, 2, dtype=torch.long), torch.ones(count, dtype=torch.bool)
    guesses = Guesses(tree, count)
    guesses.propose(0, q.log().expand(count, -1), Sampler(), everywhere, noise, places[:, :1])
    assert all(len(set(row)) == leaves for row in guesses.tokens[:100, 1:].tolist())
    places[:, 1] = 1
    walked = walk(guesses, lambda *_: (p.expand(count, -1), None), noise, places)
    first = torch.tensor(
        [
            int(guesses.tokens[row, path[0]]) if path else int(walked.symbols[row])
            for row, path in enumerate(walked.paths)
        ]
    )
    assert chi_square(first.bincount(minlength=6).numpy(), p.numpy()) < 4
    accepted = sum(map(len, walked.paths)) / count
    assert accepted > float(torch.minimum(p, q).sum()) + 0.03  # the acceptance rate of one leaf
    after = walked.symbols[[bool(path) for path in walked.paths]]
    assert chi_square(after.bincount(minlength=6).numpy(), p.numpy()) < 4


@pytest.fixture(scope="module")
def toy(make_model):
    """Three codes and three letters."""
    model = make_model({"visual": 3, "text": 3})
    model.text_head.weight.data *= 0.2  # flat distributions
    model.head.projection.weight.data *= 0.3
    return model


@pytest.mark.parametrize("tree", [DraftTree.wide(2), DraftTree.wide(2, 2)], ids=["leaves", "deep"])
@pytest.mark.parametrize("draft", [Shallow(), Tilted()], ids=["shallow", "tilted"])
def test_said_text_follows_the_models_distribution(toy, draft, tree):
    """All that can be said in three ids, each as often as the model says."""
    words, sampler, rows = toy.vocabulary, Sampler(temperature=0.7, top_p=0.95), 1500
    prompt = [words.begin, words.user, 0, 1, 2, 0, 1, words.end, words.assistant]
    session = Session(toy, rows=rows, seed=1, strategy=Speculative(draft=draft, tree=tree))
    session.feed(prompt)
    ids = said(session, sampler=sampler, max_tokens=3, draw=False, end=False)
    assert 0 < session.stats.accepted.sum() < session.stats.drafted.sum()
    laws = {(): 1.0}
    for _ in range(3):
        laws = {
            (*before, token): chance * share
            for before, chance in laws.items()
            for token, share in law_after(toy, [*prompt, *before], sampler).items()
        }
    counts = Counter(map(tuple, ids))
    found = np.array([counts[text] for text in laws])
    assert found.sum() == rows
    assert chi_square(found, np.array(list(laws.values()))) < 4


@torch.no_grad()
def law_after(model, ids, sampler):
    """How likely each id is after others."""
    session = Session(model)
    session.feed(ids)
    allowed = allowed_ids(session, False, False)
    logits = model.text_logits(session.last).masked_fill(~allowed, float("-inf"))
    return {n: p for n, p in enumerate(sampler.filter(logits).softmax(dim=-1)[0].tolist()) if p}


@pytest.mark.parametrize("draft", [Shallow(), Tilted()], ids=["shallow", "tilted"])
def test_drawn_images_follow_the_models_distribution(toy, draft):
    """All images of three codes, each as often as one teacher-forced pass says, over many seeds."""
    words, slots, rows = toy.vocabulary, 3, 500
    prompt = [words.begin, words.user, 1, words.end, words.assistant]
    session = Session(toy, rows=rows, seed=0, strategy=Speculative(draft=draft, tree=DraftTree.wide(2)))
    session.feed(prompt)
    codes = session.draw([(1, slots)], order="raster").codes
    every = torch.cartesian_prod(*[torch.arange(3)] * slots)
    header = words.open_write("raster", session.drawing.plan.shapes)
    ids = torch.tensor([[*prompt, *header, *words.visual_ids(c), words.close] for c in every.tolist()])
    with torch.no_grad():
        likely = toy(ids).step_sums.sum(dim=(1, 2)).double().exp()
    numbers = (codes * 3 ** torch.arange(slots).flip(0)).sum(dim=1)
    assert chi_square(numbers.bincount(minlength=len(every)).numpy(), (likely / likely.sum()).numpy()) < 4
    scores = likely.log()[numbers].float()
    torch.testing.assert_close(session.drawing.log_probs.sum(dim=1), scores, atol=1e-3, rtol=0)


@pytest.mark.parametrize("guidance", [None, Constant(2.0)], ids=["plain", "guided"])
def test_a_row_says_the_same_alone_and_in_a_batch(model, stream, guidance):
    def talk(session):
        said(session, sampler=RANDOM, max_tokens=6, draw=False)
        session.draw([(2, 3)], order="raster", sampler=RANDOM, guidance=guidance)
        said(session, sampler=RANDOM, max_tokens=6, draw=False)
        return session.streams

    strategy = Speculative(draft=Shallow(), tree=UNEVEN)
    together = talk(begun(model, stream, strategy))
    for number, text in enumerate(PROMPTS):
        alone = Session(model, seed=5 + number, strategy=strategy)
        alone.feed(stream.encode([{"role": "user", "content": text}], prompt=True))
        assert talk(alone)[0] == together[number]


def test_a_chain_draws_what_a_run_of_its_length_does(model, stream):
    found = []
    for strategy in (Speculative(length=4), Speculative(tree=CHAIN)):
        session = begun(model, stream, strategy)
        said(session, sampler=RANDOM, max_tokens=9, draw=False, end=False)
        session.draw([(3, 3)], order="raster", sampler=RANDOM)
        found.append((session.streams, session.stats.accepted.tolist()))
    assert found[0] == found[1]


# Relaxed acceptance -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [GREEDY, RANDOM], ids=["greedy", "random"])
def test_relaxed_acceptance_takes_a_tree(model, stream, sampler):
    """A bound of 0 is the exact rule, a large one accepts more."""
    codebook = torch.randn(model.vocabulary.visual, 4, generator=torch.Generator().manual_seed(0))
    options = {"draft": Tilted(), "tree": WIDE}
    drawn = {}
    for name, strategy in {
        "exact": Speculative(**options),
        "zero": Lantern(codebook=codebook, delta=0.0, **options),
        "one": Lantern(codebook=codebook, delta=1.0, **options),
    }.items():
        session = begun(model, stream, strategy)
        session.draw([(3, 4)], order="raster", sampler=sampler)
        drawn[name] = session.drawing.codes, session.stats.accepted.sum(), session.stats.passes
    assert torch.equal(drawn["exact"][0], drawn["zero"][0])
    assert drawn["one"][1] > drawn["exact"][1]
    assert drawn["one"][2] < drawn["exact"][2]


# Ends and interruptions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 1, 2, 5])
def test_max_tokens_is_honoured(model, stream, most):
    session = begun(model, stream, Speculative(draft=Shallow(skipped=()), tree=WIDE))
    ids = said(session, sampler=RANDOM, max_tokens=most, draw=False, end=False)
    assert [len(row) for row in ids] == [most] * 3
    assert session.stopped() == ["length"] * 3


@pytest.mark.parametrize("taken", range(1, 7))
def test_text_broken_off_anywhere_leaves_what_was_yielded(model, stream, taken):
    options = {"sampler": GREEDY, "draw": False, "end": False}
    session = begun(model, stream, Speculative(draft=Shallow(), tree=UNEVEN))
    lines = session.text(max_tokens=12, **options)
    found = [next(lines) for _ in range(taken)]
    lines.close()
    lengths = [len(ids) for ids in begun(model, stream, None).streams]
    for number, (row, length) in enumerate(zip(session.streams, lengths, strict=True)):
        assert row[length:] == [line[number] for line in found if line[number] is not None]
    plain = Session(model, rows=3, seed=5)
    plain.feed(session.streams)
    assert said(plain, max_tokens=5, **options) == said(session, max_tokens=5, **options)


@pytest.mark.parametrize("passes", range(1, 6))
def test_an_interruption_in_the_middle_of_a_pass_loses_nothing(model, stream, monkeypatch, passes):
    strategy = Speculative(draft=Shallow(), tree=WIDE)
    plain, broken = begun(model, stream, strategy), begun(model, stream, strategy)
    hidden, left = model.hidden, [0]

    def interrupted(*arguments, **named):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return hidden(*arguments, **named)

    monkeypatch.setattr(model, "hidden", interrupted)
    left[0] = passes
    with pytest.raises(KeyboardInterrupt):
        broken.draw([(3, 4)], order="raster")
    assert broken.streams == plain.streams
    left[0] = passes
    with pytest.raises(KeyboardInterrupt):
        list(broken.text(max_tokens=12, sampler=GREEDY, draw=False, end=False))
    left[0] = 0
    again = Session(model, rows=3, seed=5, strategy=strategy)
    again.feed(broken.streams)
    assert said(broken, max_tokens=5, draw=False) == said(again, max_tokens=5, draw=False)


@pytest.mark.parametrize("name", ["end", "write"])
def test_ends_inside_a_tree_are_honoured(make_model, stream, name):
    """A model that ends soon, and a draft that knows: nothing follows an end."""
    model = make_model({"orders": ["raster", "diagonal"]})
    token = int(model.vocabulary.table_rows(torch.tensor(getattr(model.vocabulary, name))))
    with torch.no_grad():
        model.text_head.weight[token] *= 3.0  # likely now and then
    lengths = []
    for most in (3, 12):
        sessions = [
            begun(model, stream, strategy)
            for strategy in (None, Speculative(draft=Shallow(skipped=()), tree=UNEVEN))
        ]
        found = [said(one, sampler=GREEDY, max_tokens=most) for one in sessions]
        assert found[0] == found[1]
        assert sessions[0].stopped() == sessions[1].stopped()
        assert sessions[0].streams == sessions[1].streams
        for one in sessions:
            one.feed([model.vocabulary.end])
        torch.testing.assert_close(sessions[0].last, sessions[1].last, atol=1e-4, rtol=0)
        lengths += [len(row) for row in found[0]]
    assert name in sessions[0].stopped(), lengths


def test_a_sliding_window_counts_a_nodes_ancestors():
    """Of five ids read and the nodes of a tree, a window of 3 leaves each node what it would see of its own
    path, read id by id."""
    cache, tree = KVCache(1), UNEVEN
    read = Layout.tokens([Cursor()], [5])
    append = cache.append(read.index, np.array([5]))
    append.update(0, torch.zeros(1, 1, 5, 2), torch.zeros(1, 1, 5, 2))
    append.commit()
    nodes = list(range(1, len(tree.nodes)))
    depths = tree.depths[nodes] - 1
    ahead = Layout.tokens(read.cursors, [len(nodes)])
    index = ahead.index.map(lambda field: field[:, depths])
    append = cache.append(index, np.array([len(nodes)]), tree=ancestry_of(tree, [0], [[]], [nodes]))
    seen = append.update(0, *[torch.zeros(1, 1, len(nodes), 2)] * 2)[2].mask
    near = near_entries(Pass(index, ahead.positions[:, :, depths], append=append), 0, 3, 5 + len(nodes))
    for row, node in enumerate(nodes):
        path = [number for number in nodes if tree.attention[node, number]]
        expected = [*range(5), *(4 + number for number in path)][-3:]
        assert (seen & near)[0, 0, row].nonzero()[:, 0].tolist() == expected


def test_a_draft_without_trees_is_refused():
    class Linear:
        def text(self, session, drafted):
            return None

    with pytest.raises(ValueError, match="Linear grows no trees"):
        Speculative(draft=Linear(), tree=WIDE)
