"""HACK: which heads are contextual, and what heads of each class keep."""

import numpy as np
import pytest
import torch

from unified.cache.hack import HACK, contextual_heads, dependence
from unified.cache.scalekv import Codes


def test_heads_that_look_at_the_same_keys_from_everywhere_depend_on_no_query():
    keys = torch.eye(8)[None, None].expand(1, 2, 8, 8)
    queries = torch.stack([20 * torch.eye(8)[[3] * 8], 20 * torch.eye(8)])[None]  # all at key 3; each its own
    found = dependence(queries, keys)
    assert found[0, 0] < 1e-6 < 0.05 < found[0, 1]
    assert contextual_heads(found, 0.5) == {(0, 0)}


def test_structural_heads_keep_first_and_latest_codes_and_contextual_ones_the_most_attended():
    policy = HACK(heads={(0, 0)}, first=1)
    keys = torch.zeros(1, 2, 10, 4)
    keys[:, :, 5] = 9.0  # the most attended code lies in the middle
    queries = torch.ones(1, 2, 3, 4)
    codes = Codes(np.array([0]), np.arange(10)[None], keys, queries)
    scores = policy._scores(codes, 0, begun=2)
    best = scores.topk(6, dim=-1).indices.sort(dim=-1).values[0].tolist()
    assert 5 in best[0]
    assert best[1] == [0, 1, 5, 7, 8, 9]


def test_a_layer_holds_the_mean_of_what_its_heads_may():
    policy = HACK(heads={(0, 0), (0, 1), (1, 0)}, contextual=3, structural=10)
    assert [policy.budget(layer, 2) for layer in range(3)] == [3, 7, 10]


def test_refusals():
    with pytest.raises(ValueError, match="at least 1"):
        HACK(contextual=0)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        contextual_heads(torch.ones(2, 2), 1.5)
