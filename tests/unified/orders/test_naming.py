"""Orders with parameters and with data: what a name and a sample say determines the plan."""

import pickle

import pytest
import torch

from unified.orders import ORDERS, GatherFeed, Plan, made, plan_for


def permuted(shapes, *, start=0, data):
    """The slots of a single map in the order that the data lists, from the `start`-th on."""
    sequence = torch.tensor(data).roll(-start)
    pairs = torch.stack([sequence[1:], sequence[:-1]], dim=1)
    return Plan(
        shapes=shapes,
        labels=sequence.argsort(),
        feed=GatherFeed.means(pairs, len(sequence)),
        read=torch.arange(len(sequence)),
        read_shapes=shapes,
    )


@pytest.fixture
def order(monkeypatch):
    monkeypatch.setitem(ORDERS, "permuted", permuted)
    yield "permuted"
    made.cache_clear()


def test_parameters_are_part_of_the_name():
    assert torch.equal(
        plan_for("raster(axis='rows')", ((2, 3),)).labels, plan_for("raster", ((2, 3),)).labels
    )
    assert plan_for('raster(axis="columns")', ((2, 3),)).labels.tolist() == [0, 2, 4, 1, 3, 5]
    assert plan_for("raster()", ((2, 3),)).order == "raster()"


def test_data_makes_a_plan_of_its_own(order):
    first = plan_for(order, ((1, 3),), data=(2, 0, 1))
    assert first.labels.tolist() == [1, 2, 0]
    assert plan_for(order, ((1, 3),), data=(2, 0, 1)) is first
    assert plan_for(order, ((1, 3),), data=(0, 1, 2)).labels.tolist() == [0, 1, 2]
    assert plan_for("permuted(start=1)", ((1, 3),), data=(2, 0, 1)).labels.tolist() == [0, 1, 2]
    assert pickle.loads(pickle.dumps(first)).labels.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("raster(turns=2)", (), "the order raster has no parameter 'turns': it takes axis"),
        ("residual(turns=2)", (), "the order residual has no parameter 'turns': it takes no parameters"),
        ("diagonal(window=3)", (), r"must lie in 1 to 2 \(columns\), got 3"),
        ("raster(axis='both')", (), "axis must be rows or columns, got 'both'"),
        ("raster(fed='last')", (), "fed must be before or own, got 'last'"),
        ("raster(axis=len)", (), "the value of axis is not a Python literal"),
        ("raster('columns')", (), r"an order is named like raster or raster\(axis='columns'\)"),
        ("raster(axis=", (), "an order is named like"),
        ("raster.plan", (), "an order is named like"),
        ("raster", (1, 0), "the order raster has no parameter 'data'"),
        ("permuted", (), "the order permuted needs a value for its parameter 'data'"),
    ],
)
def test_names_that_do_not_fit_are_refused(order, name, data, message):
    with pytest.raises(ValueError, match=message) as caught:
        plan_for(name, ((1, 2),), data)
    assert "\n" not in str(caught.value)
