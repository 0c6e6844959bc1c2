"""Buffers of keys and values with rows of their own lengths, against plain lists."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unified.cache.kv_cache import KVCache
from unified.layout.attention import Index

ROWS, LAYERS = 3, 2


def positions(rows, count, first=0):
    label = torch.arange(first, first + count).expand(rows, -1).contiguous()
    zero = torch.zeros_like(label)
    return Index(zero, zero, zero, label)


def add(cache, counts, seed, rows=slice(None), layers=range(LAYERS), commit=True):
    """Append counts [r] of as many random keys to some rows; what the last layer gives back, and the keys."""
    counts = np.asarray(counts)
    width = max(int(counts.max()), 1)
    key = torch.randn(len(counts), 2, width, 4, generator=torch.Generator().manual_seed(seed))
    index = positions(len(counts), width, 10 * seed)
    index.sample[torch.arange(width) >= torch.from_numpy(counts)[:, None]] = -1
    append = cache.append(index, counts, rows)
    for layer in layers:
        found = append.update(layer, key + layer, -key - layer)
    if commit:
        append.commit()
    return found, key


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 5), min_size=ROWS, max_size=ROWS).filter(any), min_size=1, max_size=7),
    st.integers(1, 12),
)
def test_appending_is_concatenation_row_by_row(sizes, capacity):
    cache, rows = KVCache(LAYERS, ROWS, capacity), [[] for _ in range(ROWS)]
    for seed, counts in enumerate(sizes):
        (keys, values, _), key = add(cache, counts, seed)
        for row, count in enumerate(counts):
            rows[row] += [key[row, :, place] + (LAYERS - 1) for place in range(count)]
            if rows[row]:
                expected = torch.stack(rows[row], dim=1)
                assert torch.equal(keys[row, :, : len(rows[row])], expected)
                assert torch.equal(values[row, :, : len(rows[row])], -expected)
    assert cache.lengths.tolist() == [len(row) for row in rows]


def test_a_static_cache_is_laid_out_for_flash_attention_and_refuses_what_does_not_fit():
    cache = KVCache(LAYERS, ROWS, 8, static=True)
    add(cache, [3, 5, 2], 0)
    memory = cache.stores[0].both
    assert memory.shape == (2, ROWS, 8, 2, 4)
    assert memory[0].is_contiguous()
    add(cache, [3, 3, 3], 1)
    assert cache.stores[0].both is memory
    with pytest.raises(ValueError, match="a static cache of 8 entries cannot hold 9"):
        add(cache, [1, 1, 1], 2)


def test_static_and_grown_caches_hold_the_same():
    found = []
    for static in (False, True):
        cache = KVCache(LAYERS, ROWS, 16 if static else 1, static=static)
        add(cache, [3, 5, 2], 0)
        found.append(add(cache, [1, 0, 4], 1)[0])
    (keys, values, seen), (fixed_keys, fixed_values, fixed_seen) = found
    most = keys.shape[2]
    for grown, fixed in ((keys, fixed_keys), (values, fixed_values)):
        assert fixed.shape[2] == 16
        for row, length in enumerate((4, 5, 6)):
            assert torch.equal(grown[row, :, :length], fixed[row, :, :length])
    assert torch.equal(seen.mask, fixed_seen.mask[..., :most])
    assert not fixed_seen.mask[..., most:].any(), "the rest of a static cache is hidden"


def test_a_static_cache_tells_its_lengths_on_the_device_in_place():
    cache = KVCache(LAYERS, ROWS, 16, static=True)
    told = cache.device_lengths
    add(cache, [3, 5, 2], 0)
    assert (told.dtype, told.tolist()) == (torch.int32, [[3, 5, 2]] * 2)
    add(cache, [1, 0, 1], 1, layers=[1])
    assert told.tolist() == [[3, 5, 2], [4, 5, 3]]
    cache.truncate(np.array([3, 4, 2]), [1])
    cache.keep([0], np.arange(5)[None] < np.array([[1], [2], [0]]))
    assert told.tolist() == [[1, 2, 0], [3, 4, 2]]
    assert cache.device_lengths is told
    with pytest.raises(ValueError, match="a static cache of 3 rows cannot have 5: allocate more rows"):
        cache.add_rows(2)


def test_what_is_known_to_come_makes_a_cache_grow_once():
    cache = KVCache(LAYERS, ROWS, 2)
    _, key = add(cache, [2, 1, 2], 0)
    cache.reserve(50)
    memory = cache.stores[0].both
    assert memory.shape[2] >= 50
    assert torch.equal(memory[0, 0, :2], key[0].transpose(0, 1))
    assert not memory[:, :, 2:].any(), "what is masked must be a number"
    add(cache, [40, 40, 40], 1)
    assert cache.stores[0].both is memory


def test_what_is_not_committed_is_not_held():
    cache = KVCache(LAYERS, ROWS, 2)
    add(cache, [2, 1, 2], 0)
    before = cache.entries[0].index()
    add(cache, [3, 3, 3], 1, commit=False)
    assert cache.lengths.tolist() == [2, 1, 2]
    real = before.sample == 0
    assert torch.equal(cache.entries[0].index().sample, before.sample)
    for mine, theirs in zip(cache.entries[0].index().fields(), before.fields(), strict=True):
        assert torch.equal(mine[real], theirs[real])


def test_layers_that_do_not_run_hold_their_own_entries():
    cache = KVCache(LAYERS, ROWS, 2)
    add(cache, [2, 2, 2], 0)
    assert cache.entries[0] is cache.entries[1]
    add(cache, [1, 0, 1], 1, layers=[1])
    assert [entries.lengths.tolist() for entries in cache.entries] == [[2, 2, 2], [3, 2, 3]]
    assert cache.nbytes() == (6 + 8) * 2 * 2 * 4 * 4
    cache.truncate(np.array([2, 2, 2]))
    cache.share()
    assert cache.entries[0] is cache.entries[1]


def test_keeping_some_entries_of_one_layer_and_by_head():
    cache = KVCache(LAYERS, ROWS, 2)
    _, key = add(cache, [4, 4, 3], 0)
    stays = np.array([[1, 0, 0, 1], [1, 1, 1, 1], [0, 1, 0, 0]], dtype=bool)
    cache.keep([1], stays)
    assert cache.entries[0].lengths.tolist() == [4, 4, 3]
    assert cache.entries[1].lengths.tolist() == [2, 4, 1]
    assert cache.entries[1].index().label[0, :2].tolist() == [0, 3]
    assert torch.equal(cache.stores[1].both[0, 0, :2], key[0, :, [0, 3]].transpose(0, 1) + 1)
    assert torch.equal(cache.stores[0].both[0, 0, :4], key[0].transpose(0, 1))
    heads = np.zeros((ROWS, 4, 2), dtype=bool)
    heads[:, 0, 0] = heads[:, 2, 1] = True
    cache.keep([0], heads)
    assert cache.entries[0].lengths.tolist() == [1, 1, 1]
    assert torch.equal(cache.stores[0].both[0, 1, 0], torch.stack([key[1, 0, 0], key[1, 1, 2]]))
    heads[0, 1, 0] = True
    with pytest.raises(ValueError, match="equally many entries in every head"):
        cache.keep([1], np.pad(heads, ((0, 0), (0, 0), (0, 0)))[:, :4])


def test_rows_are_added_and_taken():
    cache = KVCache(LAYERS, ROWS, 2)
    add(cache, [2, 1, 3], 0)
    cache.add_rows(2)
    assert cache.lengths.tolist() == [2, 1, 3, 0, 0]
    add(cache, [1, 2], 1, rows=slice(3, 5))
    assert cache.lengths.tolist() == [2, 1, 3, 1, 2]
    copy = cache.take([4, 2, 2])
    assert copy.lengths.tolist() == [2, 3, 3]
    assert torch.equal(copy.stores[0].both[:, 2, :3], cache.stores[0].both[:, 2, :3])
    add(copy, [1, 1, 1], 2)
    assert cache.lengths.tolist() == [2, 1, 3, 1, 2]


def test_layers_that_let_go_of_different_entries_share_again_whatever_the_rows_lengths():
    cache = KVCache(LAYERS, ROWS, 2)
    add(cache, [2, 1, 4], 0)
    add(cache, [3, 3, 3], 1)
    stays = np.ones((ROWS, 7), dtype=bool)
    stays[range(ROWS), [2, 1, 4]] = False
    cache.keep([1], stays)
    cache.truncate(np.array([2, 1, 4]))
    cache.share()
    assert cache.entries[0] is cache.entries[1]


def test_layers_forget_from_lengths_of_their_own():
    cache = KVCache(LAYERS, ROWS, 2)
    add(cache, [2, 1, 2], 0)
    add(cache, [2, 2, 2], 1, layers=[1])
    starts = cache.lengths_by_layer
    assert starts.tolist() == [[2, 1, 2], [4, 3, 4]]
    add(cache, [1, 1, 1], 2)
    cache.truncate(starts)
    assert (cache.lengths_by_layer == starts).all()
    cache.truncate(starts - 1, [1])
    assert cache.lengths_by_layer.tolist() == [[2, 1, 2], [3, 2, 3]]


@pytest.mark.parametrize("static", [False, True])
def test_memory_that_holds_nothing_is_given_back(static):
    cache = KVCache(LAYERS, ROWS, 16, static=static)
    _, key = add(cache, [3, 1, 2], 0)
    cache.release([1])
    assert [store.both.shape[2] for store in cache.stores] == [16, 16 if static else 3]
    assert torch.equal(cache.stores[1].both[0, 0, :3], key[0].transpose(0, 1) + 1)
    add(cache, [1, 1, 1], 1)
    assert cache.lengths.tolist() == [4, 2, 3]
    assert torch.equal(cache.stores[1].both[0, 0, :3], key[0].transpose(0, 1) + 1)
    before = cache.stores[1].both
    cache.release([1])
    assert cache.stores[1].both is before, "less than half is free, or the cache is static"
