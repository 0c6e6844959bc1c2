"""Buffers of keys and values against plain concatenation."""

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unified.cache.context import DropWrite, Full, Window
from unified.cache.kv_cache import KVCache
from unified.layout.attention import Index
from unified.stream.segments import Kind


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 20))
def test_updates_are_concatenation(sizes, capacity):
    cache, parts = KVCache(2, capacity), []
    for size in sizes:
        new = torch.randn(2, 3, size, 4)
        parts.append(new)
        keys, values = cache.update(new, new + 1, 1)
        assert torch.equal(keys, torch.cat(parts, dim=2))
        assert torch.equal(values, torch.cat(parts, dim=2) + 1)


def test_layers_share_a_block_that_goes_with_the_last_of_them():
    cache = KVCache(3, 4)
    states = [torch.full((1, 2, 3, 4), float(number)) for number in range(3)]
    for number, state in enumerate(states):
        cache.update(state, -state, number)
    shared = {layer.keys.untyped_storage().data_ptr() for layer in cache.buffers}
    shared |= {layer.values.untyped_storage().data_ptr() for layer in cache.buffers}
    assert len(shared) == 1
    memory = weakref.ref(cache.buffers[0].keys.untyped_storage())
    for number, state in enumerate(states):
        keys, values = cache.update(state, -state, number)  # outgrows the block
        assert torch.equal(keys, torch.cat([state, state], dim=2))
        assert torch.equal(values, -keys)
    assert memory() is None


def test_layers_of_another_shape_have_buffers_of_their_own():
    cache = KVCache(2, 4)
    narrow, wide = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 8)
    for number, state in enumerate((narrow, wide)):
        keys, _ = cache.update(state, state, number)
        assert torch.equal(keys, state)


def test_truncating_keeping_and_stacking():
    cache, other = KVCache(1, 4), KVCache(1, 4)
    whole = torch.randn(2, 1, 6, 3)
    cache.update(whole, whole, 0)
    other.update(whole[:1, :, :2], whole[:1, :, :2], 0)
    cache.keep(torch.tensor([0, 2, 5]))
    assert cache.length == 3
    stacked = cache.stack(other)
    keys, _ = stacked.update(whole[:1].repeat(3, 1, 1, 1), whole[:1].repeat(3, 1, 1, 1), 0)
    assert torch.equal(keys[:2, :, :3], whole[:, :, [0, 2, 5]])
    assert torch.equal(keys[2, :, :3], torch.cat([torch.zeros(1, 1, 3), whole[0, :, :2]], dim=1))
    assert torch.equal(stacked.first(1).buffers[0].keys[:, :, :3], keys[:1, :, :3])
    cache.truncate(1)
    assert cache.length == 1
    assert cache.nbytes() == 2 * 2 * 3 * 4
    with pytest.raises(ValueError, match="cannot truncate a cache of 1 slots to 2"):
        cache.truncate(2)


def index(kinds, segments):
    row = torch.tensor([kinds])
    zeros = torch.zeros_like(row)
    return Index(zeros, torch.tensor([segments]), row, zeros)


def test_policies():
    text, read, write = Kind.TEXT, Kind.READ, Kind.WRITE
    mixed = index([text, write, write, read, read, text], [0, 1, 1, 2, 2, 3])
    assert Full().slots(mixed) is None
    assert DropWrite().slots(mixed).tolist() == [0, 3, 4, 5]
    assert DropWrite().slots(index([text, read], [0, 1])) is None
    long = index([text] * 2 + [read] * 6, [0, 0, 1, 1, 2, 2, 3, 3])
    assert Window(8, keep=1).slots(long) is None
    assert Window(5, keep=1).slots(long).tolist() == [0, 4, 5, 6, 7]
    assert Window(4, keep=1).slots(long).tolist() == [0, 6, 7], "half a segment goes as a whole"
    with pytest.raises(ValueError, match="cannot keep the first 4"):
        Window(4, keep=4)
