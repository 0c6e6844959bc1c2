"""Rings around a cell; the generic tests of orders run on them too."""

import pytest
import torch

from unified.orders import plan_for
from unified.orders.rings import salient


def test_steps_are_distances_from_the_cell():
    plan = plan_for("rings", ((3, 4),), (2, 2))
    assert plan.labels.view(3, 4).tolist() == [[2, 1, 2, 4], [1, 0, 1, 3], [2, 1, 2, 4]]
    assert plan_for("rings", ((3, 4),), (1, 4)).labels.view(3, 4)[0].tolist() == [6, 3, 1, 0]


def test_the_most_salient_cell_of_a_map_is_the_middle():
    mapped = torch.zeros(3, 4)
    mapped[2, 1] = 1
    assert salient(mapped, (3, 4)) == (3, 2)
    assert plan_for("rings", ((3, 4),), salient(mapped, (3, 4))).labels.view(3, 4)[2, 1] == 0
    with pytest.raises(ValueError, match="has 12 values, got 6"):
        salient(torch.zeros(6), (3, 4))


@pytest.mark.parametrize(
    ("shapes", "data", "words"),
    [
        (((3, 4),), (4, 1), r"from \(1, 1\) to \(3, 4\), got \(4, 1\)"),
        (((1, 1), (2, 2)), (1, 1), "writes one map"),
    ],
)
def test_a_cell_outside_and_schedules_are_refused(shapes, data, words):
    with pytest.raises(ValueError, match=words):
        plan_for("rings", shapes, data)
