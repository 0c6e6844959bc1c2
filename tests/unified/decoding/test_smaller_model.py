"""Text drafted by a smaller model: the same text, whatever it knows; its own cache follows each session."""

import pytest
import torch

from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import SmallerModel, Speculative
from unified.decoding.strategies.smaller_model import same_rows

GREEDY, RANDOM = Sampler(temperature=0), Sampler(temperature=0.8, top_k=20)
PROMPTS = ("draw a cat", "x", "a much longer request than the others")


@torch.no_grad()
def moved(model, seed=9):
    """The model with other weights."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def small(make_model):
    """Another model of the same ids."""
    return moved(make_model())


def begun(model, stream, draft, rows=3, **options):
    strategy = None if draft is None else Speculative(draft=SmallerModel(draft), length=3)
    session = Session(model, rows=rows, seed=5, strategy=strategy, **options)
    session.feed([stream.encode([{"role": "user", "content": t}], prompt=True) for t in PROMPTS[:rows]])
    return session


def said(session, **options):
    lines = list(session.text(**options))
    return [[line[n] for line in lines if line[n] is not None] for n in range(len(session.rows))]


def talk(session, stream, sampler):
    """Words, an image, words, and another turn."""
    said(session, sampler=sampler, max_tokens=7, draw=False, end=False)
    session.draw([1, 2, 4], sampler=GREEDY)
    said(session, sampler=sampler, max_tokens=6, draw=False)
    session.feed(
        [session.vocabulary.end, *stream.encode([{"role": "user", "content": "and?"}], prompt=True)[1:]]
    )
    said(session, sampler=sampler, max_tokens=9, draw=False)
    return session.streams


def test_greedy_text_is_that_of_one_pass_a_token(model, small, stream):
    plain, drafted = (talk(begun(model, stream, draft), stream, GREEDY) for draft in (None, small))
    assert plain == drafted


def test_a_draft_equal_to_the_model_is_always_accepted(model, stream):
    session = begun(model, stream, model)
    for _ in range(2):
        said(session, sampler=RANDOM, max_tokens=9, draw=False, end=False)
        assert (session.stats.acceptance == 1).all()
        assert session.stats.passes < 5 < session.stats.draft_passes
        session.draw([1, 2, 4], sampler=GREEDY)


def test_a_row_says_the_same_alone_and_in_a_batch(model, small, stream):
    batch = talk(begun(model, stream, small), stream, RANDOM)
    assert talk(begun(model, stream, small, rows=1), stream, RANDOM)[0] == batch[0]


def test_one_draft_follows_several_sessions(model, small, stream):
    strategy = Speculative(draft=SmallerModel(small), length=3)
    prompt = stream.encode([{"role": "user", "content": "x"}], prompt=True)
    both = [Session(model, seed=5, strategy=strategy) for _ in range(2)]
    for session in both:
        session.feed(prompt)
    streams = [list(both[n % 2].text(sampler=GREEDY, max_tokens=3, end=False, draw=False)) for n in range(6)]
    assert streams[::2] == streams[1::2]


def test_a_row_that_is_restarted_is_read_anew(model, small, stream):
    session = begun(model, stream, small)
    said(session, sampler=GREEDY, max_tokens=5, draw=False, end=False)
    session.restart(1)
    prompts = [stream.encode([{"role": "user", "content": t}], prompt=True) for t in PROMPTS]
    session.feed([[], prompts[1], []])
    fresh = said(session, sampler=GREEDY, max_tokens=5, draw=False, end=False)[1]
    other = begun(model, stream, small)
    assert fresh == said(other, sampler=GREEDY, max_tokens=5, draw=False, end=False)[1]


def test_a_conversation_too_long_for_the_draft_goes_on_without_it(model, make_model, stream):
    short = make_model(backbone={**model.config.backbone, "max_position_embeddings": 24})
    assert short.context_length == 24 < model.context_length
    session = begun(model, stream, short)
    plain = said(begun(model, stream, None), sampler=GREEDY, max_tokens=30, draw=False, end=False)
    assert said(session, sampler=GREEDY, max_tokens=30, draw=False, end=False) == plain


def test_ids_are_matched_by_name(model, make_model):
    other = make_model({"visual": 40, "max_side": 9, "appended": ("reserved:0",)})
    one, rows = model.vocabulary, same_rows(model.vocabulary, other.vocabulary)
    assert rows[: one.text].tolist() == list(range(one.text))
    for name in ("end", "write", "assistant", "size:9"):
        assert other.vocabulary.id_of_row(rows[one.special[name]]) == other.vocabulary.special[name]
    assert int(rows[one.special["size:10"]]) == -1
    assert (same_rows(one, one) == torch.arange(one.table_size)).all()


def test_a_draft_of_other_codes_reads_no_images(model, make_model, stream):
    other = moved(make_model({"visual": 40}))
    assert talk(begun(model, stream, None), stream, GREEDY) == talk(
        begun(model, stream, other), stream, GREEDY
    )
