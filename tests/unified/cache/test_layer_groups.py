"""A cache of layers of two forms, some of which take other positions than the rest in one pass."""

import numpy as np
import pytest
import torch

from unified.cache.kv_cache import KVCache
from unified.layout.attention import Index


def index(labels, segment=0):
    label = torch.tensor(labels)
    zero = torch.zeros_like(label)
    return Index(zero, zero + segment, zero, label)


def keys(rows, heads, count, width, seed=0):
    return torch.randn(rows, heads, count, width, generator=torch.Generator().manual_seed(seed))


def test_groups_have_keys_of_their_own_form():
    cache = KVCache([2, 1], rows=1, capacity=4)
    append = cache.append(index([[0, 1]]), np.array([2]))
    for layer, (heads, width) in enumerate([(2, 8), (2, 8), (3, 4)]):
        key = keys(1, heads, 2, width, layer)
        held, _, _ = append.update(layer, key, key)
        assert torch.equal(held, key)
    append.commit()
    assert cache.lengths_by_layer.tolist() == [[2], [2], [2]]
    assert cache.nbytes() == 4 * 2 * 2 * (2 * 2 * 8 + 3 * 4)


def test_some_layers_take_other_positions_in_the_same_pass():
    """The second layer takes the last position alone, under a label of its own."""
    cache = KVCache(2, rows=2)
    append = cache.append(index([[0, 1, 2], [0, 1, 0]]), np.array([3, 2]))
    first = keys(2, 1, 3, 4)
    append.update(0, first, first)
    other = cache.append(index([[7], [7]]), np.array([1, 1]), layers=[1])
    second = keys(2, 1, 1, 4, seed=1)
    held, _, _ = other.update(1, second, second)
    assert torch.equal(held, second)
    other.commit()
    append.commit()
    assert cache.lengths_by_layer.tolist() == [[3, 2], [1, 1]]
    assert cache.entries[0].index().label[:, :2].tolist() == [[0, 1], [0, 1]]
    assert cache.entries[1].index().label.tolist() == [[7], [7]]
    found, _, lengths = cache.held(0, slice(0, 1))
    assert torch.equal(found, first[:1])
    assert lengths.tolist() == [3]


def test_a_pass_that_is_not_committed_leaves_nothing():
    cache = KVCache(2, rows=1)
    append = cache.append(index([[0, 1]]), np.array([2]))
    for layer in (0, 1):
        append.update(layer, keys(1, 1, 2, 4), keys(1, 1, 2, 4))
    append.commit()
    cache.append(index([[5]]), np.array([1]), layers=[1]).update(1, keys(1, 1, 1, 4), keys(1, 1, 1, 4))
    assert cache.lengths_by_layer.tolist() == [[2], [2]]
    assert cache.entries[1].index().label.tolist() == [[0, 1]]


def test_a_layer_that_holds_nothing_is_refused():
    with pytest.raises(ValueError, match="layer 1 holds no keys yet"):
        KVCache(2).held(1)
