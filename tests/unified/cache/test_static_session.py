"""A session whose keys and values lie in buffers that never move says what any session says."""

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.cache.policy import Full, Window
from unified.decoding.guidance import Constant
from unified.decoding.session import Session
from unified.stream.messages import Stream


def talk(session, guidance):
    list(session.text(max_tokens=4, draw=False))
    session.draw([1, 2, (2, 3)], guidance=guidance)
    list(session.text(max_tokens=4, draw=False))
    session.action()
    session.draw([1, 2], order="raster", rows=[False, True])
    return session.streams


def opened(model, policy, cache=None):
    stream = Stream(model.vocabulary, byte_tokenizer())
    session = Session(model, rows=2, seed=3, policy=policy)
    if cache is not None:
        session.keep_in(cache)
    asked = ("a", "a longer request")
    session.feed([stream.encode([{"role": "user", "content": said}], prompt=True) for said in asked])
    return session


@pytest.mark.parametrize("policy", [None, Full(), Window(30)], ids=["drop_write", "full", "window"])
@pytest.mark.parametrize("guidance", [None, Constant(2.0)], ids=["plain", "guided"])
def test_a_session_says_the_same_in_a_static_cache(model, policy, guidance):
    cache = model.new_cache(4, 120, static=True)
    session = opened(model, policy, cache)
    buffers = [store.both.data_ptr() for store in cache.stores]
    lengths = cache.device_lengths.data_ptr()
    grown = opened(model, policy)
    assert talk(session, guidance) == talk(grown, guidance)
    assert [store.both.data_ptr() for store in cache.stores] == buffers
    assert cache.stores[0].both.shape[1:3] == (4, 120)
    assert cache.device_lengths.data_ptr() == lengths
    assert cache.device_lengths[0].tolist() == cache.lengths.tolist()
    used = grown.context.cache.lengths
    assert cache.lengths[: len(used)].tolist() == used.tolist()
    torch.testing.assert_close(session.last, grown.last, atol=1e-5, rtol=1e-5)


def test_what_does_not_fit_is_refused_and_leaves_the_session_as_it_was(model):
    session = opened(model, None, model.new_cache(2, 30, static=True))
    other = opened(model, None)
    with pytest.raises(ValueError, match="a static cache of 30 entries cannot hold 33: allocate more"):
        session.draw([1, 2, 4])
    with pytest.raises(ValueError, match="a static cache of 2 rows cannot have 4"):
        session.draw([1, 2], guidance=Constant(2.0))
    assert list(session.text(max_tokens=3, draw=False)) == list(other.text(max_tokens=3, draw=False))


def test_a_cache_that_is_not_empty_or_too_small_is_refused(model):
    with pytest.raises(ValueError, match="2 rows needs an empty cache of as many, got one of 1"):
        opened(model, None, model.new_cache(1, 30, static=True))
    used = opened(model, None).context.cache
    with pytest.raises(ValueError, match="with 20 entries"):
        opened(model, None, used)
