"""Factors on the codes of small and large maps."""

import pytest
import torch
from unified.train.rows import map_weights

from unified.orders import plan_for


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_the_mean_is_one_and_small_maps_count_more(balance):
    plan = plan_for("next_scale", ((1, 1), (2, 2), (4, 4)))
    weights = map_weights(plan, balance)
    assert weights.mean() == pytest.approx(1)
    first, second, last = (weights[part] for part in plan.map_slices)
    torch.testing.assert_close(first / second[0], torch.tensor([4.0**balance]))
    sums = torch.stack([first.sum(), second.sum(), last.sum()])
    if balance == 1:
        torch.testing.assert_close(sums, sums[:1].expand(3))
    else:
        assert sums[0] < sums[1] < sums[2]
