"""Decoding strategies: speculative sampling is exact, rolls back per row, and leaves sessions as the default
does."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.backbone.layer_pass import LayerPart
from unified.cache.policy import DropWrite, Full, Window
from unified.decoding.guidance import Constant
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import STRATEGIES, OnePass, PromptLookup, Shallow, SmallerModel, Speculative
from unified.decoding.strategies.rejection import DRAFT, draw, verify
from unified.decoding.text import allowed_ids
from unified.depth import AllLayers
from unified.orders import ORDERS
from unified.stream.messages import Stream

GREEDY, RANDOM = Sampler(temperature=0), Sampler(temperature=0.8, top_k=20)
PROMPTS = ("draw a cat", "x", "a much longer request than the others")
SCHEDULES = {"next_scale": [1, 2, (2, 3)], "residual": [1, 2, (2, 3)]}  # others: one map


class Wrong:
    """A draft that guesses at random, out of the whole vocabulary."""

    def text(self, session, drafted):
        rng = torch.Generator().manual_seed(max(map(len, drafted)))
        return torch.randn(len(drafted), session.vocabulary.table_size, generator=rng)

    def image(self, session, chunk, rows, plan, step):
        rng = torch.Generator().manual_seed(step)
        return [torch.randn(chunk.embeds.shape, generator=rng)] * len(session.model.heads)


class Tilted(Shallow):
    """A draft that knows the model and guesses what it finds unlikely."""

    def text(self, session, drafted):
        return -0.5 * super().text(session, drafted)

    def image(self, *arguments):
        return [-0.5 * states for states in super().image(*arguments)]


DRAFTS = {"shallow": Shallow(), "same": Shallow(skipped=()), "wrong": Wrong(), "lookup": PromptLookup()}


@pytest.fixture(scope="session")
def model(make_model):
    """With the heads that every order needs."""
    return make_model({"orders": list(ORDERS)})


def begun(model, stream, strategy, rows=3, **options):
    session = Session(model, rows=rows, seed=5, strategy=strategy, **options)
    session.feed([stream.encode([{"role": "user", "content": t}], prompt=True) for t in PROMPTS[:rows]])
    return session


def said(session, **options):
    """By row."""
    lines = list(session.text(**options))
    assert all(any(token is not None for token in line) for line in lines)
    return [[line[n] for line in lines if line[n] is not None] for n in range(len(session.rows))]


def written(session, order, **options):
    return list(session.image(SCHEDULES.get(order.split("(")[0], [(3, 4)]), order=order, **options))


def held(session):
    """What the cache of a session holds, by layer."""
    return [entries.lengths.tolist() for entries in session.context.cache.entries]


# The default ------------------------------------------------------------------------------------------------


def test_the_default_is_one_pass_a_step(model, stream):
    session = begun(model, stream, None)
    assert isinstance(session.strategy, OnePass)
    assert set(STRATEGIES) >= {"one_pass", "speculative"}
    drawing = written(session, "raster")
    assert session.stats.passes == len(drawing) == 12
    assert np.isnan(session.stats.acceptance).all()


# Temperature 0: the same ids --------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", DRAFTS.values(), ids=DRAFTS.keys())
@pytest.mark.parametrize("guidance", [None, Constant(2.0)], ids=["plain", "guided"])
@pytest.mark.parametrize("order", ORDERS)
def test_greedy_images_are_those_of_the_default(model, stream, order, guidance, draft):
    """In every order, guided or not, rows of unequal prompts; and the cache is left as the default does."""
    sessions = [begun(model, stream, strategy) for strategy in (None, Speculative(draft=draft, length=3))]
    steps = [written(one, order, sampler=GREEDY, guidance=guidance) for one in sessions]
    assert sessions[0].streams == sessions[1].streams
    assert held(sessions[0]) == held(sessions[1])
    for one, other in zip(*steps, strict=True):
        assert one.step == other.step
        assert torch.equal(one.codes, other.codes)
        torch.testing.assert_close(one.logits, other.logits, atol=1e-4, rtol=0)
    assert said(sessions[0], sampler=GREEDY, max_tokens=4) == said(sessions[1], sampler=GREEDY, max_tokens=4)


@pytest.mark.parametrize("draft", DRAFTS.values(), ids=DRAFTS.keys())
@pytest.mark.parametrize("contrast", [0.0, 1.5])
def test_greedy_text_is_that_of_the_default(model, stream, draft, contrast):
    sessions = [begun(model, stream, strategy) for strategy in (None, Speculative(draft=draft))]
    for one in sessions:
        written(one, "next_scale", sampler=GREEDY)
    options = {"sampler": GREEDY, "max_tokens": 14, "contrast": contrast}
    assert said(sessions[0], **options) == said(sessions[1], **options)
    assert sessions[0].streams == sessions[1].streams
    assert sessions[0].stopped() == sessions[1].stopped()
    for one in sessions:
        one.feed(stream.text.encode("and"))
    assert held(sessions[0]) == held(sessions[1])
    torch.testing.assert_close(sessions[0].last, sessions[1].last, atol=1e-4, rtol=0)


@pytest.mark.parametrize("policy", [Full(), DropWrite(), Window(24, keep=2)], ids=["full", "drop", "window"])
def test_cache_policies_see_what_they_see_by_default(model, stream, policy):
    """A window lets go of something after every token: rounds end there."""
    sessions = [
        begun(model, stream, strategy, policy=policy)
        for strategy in (None, Speculative(draft=DRAFTS["same"]))
    ]
    for one in sessions:
        said(one, sampler=GREEDY, max_tokens=9, end=False, draw=False)
        written(one, "raster", sampler=GREEDY)
        said(one, sampler=GREEDY, max_tokens=9, end=False, draw=False)
    assert sessions[0].streams == sessions[1].streams
    assert held(sessions[0]) == held(sessions[1])


@pytest.mark.parametrize("rows", [[True, False, True], [False, True, False]])
def test_only_marked_rows_write(model, stream, rows):
    sessions = [begun(model, stream, strategy) for strategy in (None, Speculative(draft=Shallow()))]
    steps = [written(one, "diagonal", sampler=GREEDY, rows=rows) for one in sessions]
    assert sessions[0].streams == sessions[1].streams
    assert [choice.codes.shape for choice in steps[0]] == [choice.codes.shape for choice in steps[1]]


def test_merged_patches_bits_references_and_the_fused_layers_are_verified(make_model):
    """Heads of several symbols, four codes a position, slots that say something of their own."""
    model = make_model({"merge": 2}, head="bitwise").fuse()
    stream = Stream(model.vocabulary, byte_tokenizer())
    for order, shapes in {"next_scale": [1, 2, 4], "diagonal": [(4, 4)]}.items():
        found = []
        for strategy in (None, Speculative(draft=Shallow(), length=2)):
            session = begun(model, stream, strategy, rows=2)
            session.draw(shapes, order=order, sampler=GREEDY)
            session.action(sampler=GREEDY)
            session.draw(shapes, order=order, sampler=GREEDY)
            found.append(session.streams)
        assert found[0] == found[1]


# What it costs ----------------------------------------------------------------------------------------------


def test_a_draft_equal_to_the_model_is_always_accepted(model, stream):
    session = begun(model, stream, Speculative(draft=DRAFTS["same"], length=4))
    words = said(session, sampler=RANDOM, max_tokens=15, draw=False, end=False)
    assert [len(row) for row in words] == [15] * 3
    stats = session.stats
    assert (stats.acceptance == 1).all()
    assert stats.passes == 3 + 1  # five ids a round, and the last one is read
    written(session, "raster", sampler=RANDOM)  # 1 + 5 + 5 + 1 steps
    assert (session.stats.acceptance == 1).all()
    assert session.stats.drafted.tolist() == [8] * 3
    assert (session.stats.passes, session.stats.draft_passes) == (4, 8)


def test_a_wrong_draft_costs_no_more_passes_than_the_default(model, stream):
    session = begun(model, stream, Speculative(draft=Wrong(), length=4))
    written(session, "raster", sampler=GREEDY)
    assert session.stats.passes <= 12
    assert (session.stats.acceptance < 0.2).all()


def test_rows_are_accepted_and_rolled_back_by_themselves(model, stream):
    """A draft that is right in one row and wrong in the others: that row runs ahead, and stands in the cache
    where it should."""

    class RightInRow1(Wrong):
        def text(self, session, drafted):
            right = Shallow(skipped=()).text(session, drafted)
            wrong = super().text(session, drafted)
            return torch.where(torch.arange(len(drafted))[:, None] == 1, right, wrong)

        def image(self, session, chunk, rows, plan, step):
            right = Shallow(skipped=()).image(session, chunk, rows, plan, step)
            wrong = super().image(session, chunk, rows, plan, step)
            first = torch.arange(len(right[0]))[:, None, None] == 1
            return [torch.where(first, *pair) for pair in zip(right, wrong, strict=True)]

    session = begun(model, stream, Speculative(draft=RightInRow1(), length=3))
    written(session, "raster", sampler=GREEDY)
    assert session.stats.acceptance[1] == 1
    assert session.stats.accepted[[0, 2]].max() < session.stats.accepted[1]
    plain = begun(model, stream, None)
    written(plain, "raster", sampler=GREEDY)
    assert session.streams == plain.streams
    lines = session.text(sampler=GREEDY, max_tokens=8, draw=False, end=False)
    first = [next(lines) for _ in range(4)]
    assert all(token is not None for token in first[0])
    assert [token is None for token in first[1]] == [True, False, True]
    lines.close()
    assert [len(row.stream) for row in session.rows] == [
        len(row.stream) + n for row, n in zip(plain.rows, (1, 4, 1), strict=True)
    ]
    for number, row in enumerate(session.rows):
        alone = Session(model)
        alone.feed(row.stream)
        session.read_pending()
        torch.testing.assert_close(session.last[number], alone.last[0], atol=1e-4, rtol=0)


# Distributions ----------------------------------------------------------------------------------------------


def chi_square(counts, probabilities):
    """Of counts [V] against probabilities [V], in standard deviations above its mean."""
    expected = probabilities * counts.sum()
    used = expected > 0
    assert (counts[~used] == 0).all()
    freedom = int(used.sum()) - 1
    statistic = ((counts[used] - expected[used]) ** 2 / expected[used]).sum()
    return (statistic - freedom) / (2 * freedom) ** 0.5


def test_the_rule_turns_the_drafts_distribution_into_the_models():
    rng = torch.Generator().manual_seed(0)
    p, q = (torch.rand(6, generator=rng).pow(2) + 0.02 for _ in range(2))
    p, q, count = p / p.sum(), q / q.sum(), 20000
    noise, places = PositionNoise([3]), torch.arange(count)[None]
    laws = [law.expand(1, count, 1, -1) for law in (p, q)]
    drafted = draw(laws[1], noise, places, DRAFT)
    verdict = verify(*laws, drafted, noise, places)
    assert chi_square(drafted.flatten().bincount(minlength=6).numpy(), p.numpy()) > 50
    assert chi_square(verdict.symbols.flatten().bincount(minlength=6).numpy(), p.numpy()) < 4
    expected = float(torch.minimum(p, q).sum())  # the acceptance rate of theorem 3.5 of Leviathan et al.
    assert abs(verdict.accepted.float().mean().item() - expected) < 0.02


@pytest.fixture(scope="module")
def toy(make_model):
    """Three codes and three letters."""
    model = make_model({"visual": 3, "text": 3})
    model.text_head.weight.data *= 0.2  # flat distributions
    model.head.projection.weight.data *= 0.3
    return model


@pytest.mark.parametrize("draft", [Tilted(), Wrong()], ids=["tilted", "wrong"])
@pytest.mark.parametrize("shape", [(1, 3), (2, 2)], ids=["one", "two"])  # slots of the step that is drafted
def test_drawn_images_follow_the_models_distribution(toy, shape, draft):
    """All images of a few codes, each as often as one teacher-forced pass says, over many seeds."""
    words, slots = toy.vocabulary, shape[0] * shape[1]
    prompt, rows = [words.begin, words.user, 1, words.end, words.assistant], 800
    session = Session(toy, rows=rows, seed=0, strategy=Speculative(draft=draft, length=2))
    session.feed(prompt)
    codes = session.draw([shape], order="diagonal").codes
    assert 0.1 < session.stats.acceptance.mean() < 0.95
    every = torch.cartesian_prod(*[torch.arange(3)] * slots)
    header = words.open_write("diagonal", session.drawing.plan.shapes)
    ids = torch.tensor([[*prompt, *header, *words.visual_ids(c), words.close] for c in every.tolist()])
    with torch.no_grad():
        likely = toy(ids).step_sums.sum(dim=(1, 2)).double().exp()
    assert abs(likely.sum() - 1) < 1e-4
    numbers = (codes * 3 ** torch.arange(slots).flip(0)).sum(dim=1)
    assert chi_square(numbers.bincount(minlength=len(every)).numpy(), (likely / likely.sum()).numpy()) < 4
    scores = likely.log()[numbers].float()
    torch.testing.assert_close(session.drawing.log_probs.sum(dim=1), scores, atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def smaller(make_model):
    """A draft by another model of the same ids."""
    other = make_model({"visual": 3, "text": 3})
    generator = torch.Generator().manual_seed(4)
    for weight in other.parameters():
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    return SmallerModel(other)


@pytest.mark.parametrize(
    "draft",
    [Shallow(), Tilted(), Wrong(), PromptLookup(), "smaller"],
    ids=["shallow", "tilted", "wrong", "lookup", "smaller"],
)
def test_said_text_follows_the_models_distribution(toy, smaller, draft):
    """All that can be said in three ids, each as often as the model says."""
    draft = smaller if draft == "smaller" else draft
    words, sampler, rows = toy.vocabulary, Sampler(temperature=0.7, top_p=0.95), 1500
    prompt = [words.begin, words.user, 0, 1, 2, 0, 1, words.end, words.assistant]
    session = Session(toy, rows=rows, seed=1, strategy=Speculative(draft=draft, length=2))
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
    found = np.array([counts[said] for said in laws])
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


@pytest.mark.parametrize("draft", [Shallow(), PromptLookup()], ids=["shallow", "lookup"])
@pytest.mark.parametrize("guidance", [None, Constant(2.0)], ids=["plain", "guided"])
def test_a_row_says_the_same_alone_and_in_a_batch(model, stream, guidance, draft):
    def talk(session):
        said(session, sampler=RANDOM, max_tokens=6, draw=False)
        written(session, "diagonal", sampler=RANDOM, guidance=guidance)
        said(session, sampler=RANDOM, max_tokens=6, draw=False)
        return session.streams

    strategy = Speculative(draft=draft, length=3)
    together = talk(begun(model, stream, strategy))
    for number, text in enumerate(PROMPTS):
        alone = Session(model, seed=5 + number, strategy=strategy)
        alone.feed(stream.encode([{"role": "user", "content": text}], prompt=True))
        assert talk(alone)[0] == together[number]


# Ends and interruptions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["end", "write"])
@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_ends_inside_a_drafted_run_are_honoured(model, stream, monkeypatch, name, after):
    """A model that says as many "a" and then ends its turn or asks to draw, and a draft that knows."""
    words = stream.vocabulary
    token = getattr(words, name)
    starts = [len(row.stream) for row in begun(model, stream, None).rows]

    class Knows:
        def text(self, session, drafted):
            logits = torch.zeros(3, words.table_size)
            for number, (row, ids) in enumerate(zip(session.rows, drafted, strict=True)):
                count = len(row.stream) - starts[number] + len(ids)
                logits[number, 97 if count < after + number else token] = 1e4
            return logits

        def image(self, *_):
            return None

    strategy = Speculative(draft=Knows(), length=4)
    session = begun(model, stream, strategy)
    monkeypatch.setattr(
        "unified.decoding.text.TextRun.logits",
        lambda run, states, blind=None: torch.stack(
            [Knows().text(run.session, [[0] * n] * 3) for n in range(states.shape[1])], dim=1
        ),
    )
    ids = said(session, max_tokens=20)
    ending = [token] if name == "end" else []
    assert ids == [[97] * (after + number) + ending for number in range(3)]
    assert session.stopped() == [name] * 3
    assert session.stats.passes <= 2
    monkeypatch.undo()
    session.feed([words.end])
    for number, row in enumerate(session.rows):
        alone = Session(model)
        alone.feed(row.stream)
        torch.testing.assert_close(session.last[number], alone.last[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("most", [0, 1, 2, 5, 7])
def test_max_tokens_is_honoured(model, stream, most):
    session = begun(model, stream, Speculative(draft=DRAFTS["same"], length=4))
    ids = said(session, sampler=RANDOM, max_tokens=most, draw=False, end=False)
    assert [len(row) for row in ids] == [most] * 3
    assert session.stopped() == ["length"] * 3


@pytest.mark.parametrize("taken", range(1, 8))
def test_text_broken_off_anywhere_leaves_what_was_yielded(model, stream, taken):
    options = {"sampler": GREEDY, "draw": False, "end": False}
    session = begun(model, stream, Speculative(draft=Shallow(), length=3))
    lines = session.text(max_tokens=12, **options)
    found = [next(lines) for _ in range(taken)]
    lines.close()
    lengths = [len(ids) for ids in begun(model, stream, None).streams]
    for number, (row, length) in enumerate(zip(session.streams, lengths, strict=True)):
        assert row[length:] == [line[number] for line in found if line[number] is not None]
    plain = Session(model, rows=3, seed=5)
    plain.feed(session.streams)
    assert said(plain, max_tokens=5, **options) == said(session, max_tokens=5, **options)


def test_a_row_stopped_by_the_caller_says_no_more(model, stream):
    session = begun(model, stream, Speculative(draft=DRAFTS["same"], length=4))
    lines = session.text(sampler=GREEDY, max_tokens=12, draw=False, end=False)
    found = [next(lines)]
    session.rows[1].stopped = "write"
    found += list(lines)
    assert [sum(line[n] is not None for line in found) for n in range(3)] == [12, 1, 12]
    assert session.stopped()[1] == "write"


@pytest.mark.parametrize("taken", [1, 4, 9])
def test_an_image_broken_off_leaves_no_trace(model, stream, taken):
    strategy = Speculative(draft=Shallow(), length=3)
    plain, broken = begun(model, stream, strategy), begun(model, stream, strategy)
    drawing = broken.image([(3, 4)], order="raster", guidance=Constant(2.0))
    for _ in range(taken):
        next(drawing)
    drawing.close()
    assert broken.streams == plain.streams
    for one in (plain, broken):
        said(one, max_tokens=5, draw=False)
        written(one, "raster", guidance=Constant(2.0))
    assert broken.streams == plain.streams
    assert held(broken) == held(plain)


@pytest.mark.parametrize("passes", range(1, 7))
def test_an_interruption_in_the_middle_of_a_pass_loses_nothing(model, stream, monkeypatch, passes):
    """As Ctrl-C would, while something is drafted or verified."""
    strategy = Speculative(draft=Shallow(), length=3)
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
    left[0], heard = passes, []
    with pytest.raises(KeyboardInterrupt):
        heard.extend(broken.text(max_tokens=12, sampler=GREEDY, draw=False, end=False))
    left[0] = 0
    again = Session(model, rows=3, seed=5, strategy=strategy)
    again.feed(broken.streams)
    assert said(broken, max_tokens=5, draw=False) == said(again, max_tokens=5, draw=False)


# Combinations -----------------------------------------------------------------------------------------------


def test_a_hook_sees_every_step_once(model, stream):
    seen = []

    def hook(choice):
        seen.append(choice.step)
        return dataclasses.replace(choice, codes=torch.zeros_like(choice.codes))

    session = begun(model, stream, Speculative(draft=Shallow()))
    written(session, "raster", hook=hook)
    assert seen == list(range(12))
    assert not session.drawing.codes.any()


class ByStep(DropWrite):
    """A cache policy that is asked by step, and keeps everything."""

    by_step = True


class PartByStep(LayerPart):
    """A part that must be told every step, and fails without."""

    by_step = True

    def enter(self, layer, hidden, run):
        assert run.plan is None or run.step >= 0
        return hidden


@pytest.mark.parametrize(
    "options",
    [{"depth": AllLayers()}, {"policy": ByStep()}, {"parts": [PartByStep()]}],
    ids=["depth", "policy", "part"],
)
def test_what_must_see_every_step_by_itself_gets_one_pass_a_step(model, stream, options):
    sessions = [begun(model, stream, one, **options) for one in (None, Speculative(draft=Shallow()))]
    for session in sessions:
        written(session, "raster")
    assert sessions[0].streams == sessions[1].streams
    assert (sessions[1].stats.passes, sessions[1].stats.draft_passes) == (12, 0)


def test_prompt_lookup_guesses_what_followed_before():
    lookup = PromptLookup(longest=2)
    assert lookup.follows([1, 2, 3, 9, 2, 4, 1, 2]) == 3  # two ids before one
    assert lookup.follows([1, 2, 3, 9, 2, 4, 8, 2]) == 4  # the latest
    assert lookup.follows([1, 2, 3]) is None
    assert lookup.follows([5]) is None
    with pytest.raises(ValueError, match="at least one id, got longest=0"):
        PromptLookup(longest=0)


def test_prompt_lookup_saves_passes_where_words_come_again(model, stream):
    session = Session(model, strategy=Speculative(draft=PromptLookup(), length=4))
    session.feed(stream.encode([{"role": "user", "content": PROMPTS[2]}], prompt=True))
    said(session, sampler=GREEDY, max_tokens=30, draw=False, end=False)
    assert session.stats.draft_passes == 0
    assert session.stats.passes < 30
    assert session.stats.accepted.sum() > 0


def test_settings_that_draft_nothing_are_refused():
    with pytest.raises(ValueError, match="at least one token, got length=0"):
        Speculative(length=0)
