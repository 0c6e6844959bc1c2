"""Where slots are predicted from, and what the steps of a plan run and decide."""

import copy
import pickle

import pytest
import torch

from unified.orders import BEFORE, NOTHING, ORDERS, Plan, ReadOuts, SelfFeed, plan_for
from unified.orders.feeds import GatherFeed


def neighbours(height=2, width=3, read_outs=None):
    """A self-fed plan as NAR's: a slot is predicted at its left neighbour by head 0 and at its upper one by
    head 1, the first before all."""
    slots = torch.arange(height * width).view(height, width)
    left, above = torch.full_like(slots, NOTHING), torch.full_like(slots, NOTHING)
    left[:, 1:], above[1:] = slots[:, :-1], slots[:-1]
    left[0, 0] = above[0, 0] = BEFORE
    source = torch.stack([left.flatten(), above.flatten()], dim=1)
    head = torch.tensor([0, 1]).expand_as(source)
    return Plan(
        shapes=((height, width),),
        labels=(torch.arange(height)[:, None] + torch.arange(width)).flatten(),
        feed=SelfFeed(height * width),
        read=slots.flatten(),
        read_shapes=((height, width),),
        read_outs=read_outs or ReadOuts(source, head),
    )


@pytest.mark.parametrize("order", ["next_scale", "residual", "raster", "diagonal"])
def test_orders_fed_by_earlier_codes_run_what_they_decide(order):
    plan = plan_for(order, ((3, 4),))
    assert plan.own
    assert plan.heads == 1
    assert all(torch.equal(step.run, step.decide) for step in plan.steps)


@pytest.mark.parametrize("order", ORDERS)
def test_registered_orders_run_what_they_decided_a_lag_before(order):
    plan = plan_for(order, ((3, 4),))
    decided = [[]] * plan.feed.lag + [step.decide.tolist() for step in plan.steps]
    assert [step.run.tolist() for step in plan.steps] == decided[: len(plan.steps)]


def test_a_self_fed_plan_runs_what_the_step_before_decided():
    plan = neighbours()
    assert [step.decide.tolist() for step in plan.steps] == [[0], [1, 3], [2, 4], [5]]
    assert [step.run.tolist() for step in plan.steps] == [[], [0], [1, 3], [2, 4]]
    assert not plan.own
    assert plan.heads == 2
    assert not plan.feed.starts.any()


def test_every_read_out_has_been_run_by_then():
    """The walk of a decode loop: a step runs its slots, fed with codes known by then, and then decides."""
    plan = neighbours(4, 5)
    known, run = torch.zeros(20, dtype=torch.bool), torch.zeros(20, dtype=torch.bool)
    for step in plan.steps:
        assert known[step.run].all()
        run[step.run] = True
        sources = plan.read_outs.source[step.decide]
        assert run[sources[sources >= 0]].all()
        assert not known[step.decide].any()
        known[step.decide] = True
    assert known.all()


def test_shares_are_those_of_a_mean():
    plan = neighbours()
    assert plan.read_outs.share.tolist() == [[0.5, 0.5], [1, 0], [1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5]]


def test_a_self_fed_slot_is_fed_its_own_code():
    plan, values = neighbours(), torch.randn(2, 6, 4)
    assert torch.equal(plan.feed.inputs(values, plan.slots), values)
    assert torch.equal(plan.feed.inputs(values, plan.steps[2].run), values[:, [1, 3]])


def read_outs(source, head=None):
    source = torch.tensor(source)
    return ReadOuts(source, torch.zeros_like(source) if head is None else torch.tensor(head))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (read_outs([[BEFORE], [0], [1], [0], [1], [5]]), "slot 5 is read out at slot 5, which is not run"),
        (read_outs([[BEFORE], [3], [1], [0], [1], [2]]), "slot 1 is read out at slot 3, which is not run"),
        (read_outs([[BEFORE], [0], [NOTHING], [0], [1], [2]]), "slot 2 is read out nowhere"),
        (read_outs([[BEFORE], [0], [6], [0], [1], [2]]), "sources among the slots"),
        (read_outs([[BEFORE], [0], [1], [0], [1], [2]], [[0], [0], [-1], [0], [0], [0]]), "heads from 0 on"),
        (read_outs([[BEFORE]] * 5), r"6 slots needs read-outs \[6, k\]"),
    ],
)
def test_read_outs_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        neighbours(read_outs=given)


def test_a_slot_that_others_feed_may_be_read_out_where_it_is_run():
    """With a feed of earlier codes a read-out at the slot's own step is no leak; one step later it is."""
    feed = GatherFeed.means(torch.tensor([[1, 0], [2, 1]]), 3)
    fields = {"shapes": ((1, 3),), "feed": feed, "read": torch.arange(3), "read_shapes": ((1, 3),)}
    labels = torch.arange(3)
    plan = Plan(**fields, labels=labels, read_outs=read_outs([[0, BEFORE], [1, 0], [2, 1]]))
    assert not plan.own
    with pytest.raises(ValueError, match="slot 1 is read out at slot 2"):
        Plan(**fields, labels=labels, read_outs=read_outs([[0], [2], [2]]))


@pytest.mark.parametrize(
    ("name", "sources"),
    [
        ("raster(fed='own')", [BEFORE, 0, 1, 2, 3, 4, 5]),
        ("raster(fed='own', axis='columns')", [BEFORE, 0, 4, 5, 1, 2, 3]),
    ],
)
def test_a_raster_that_is_fed_its_own_codes_is_read_out_at_the_one_before(name, sources):
    plan = plan_for(name, ((1, 1), (2, 3)))
    assert plan.read_outs.source[:, 0].tolist() == sources
    written = torch.cat([step.decide for step in plan.steps])
    assert torch.equal(torch.cat([step.run for step in plan.steps]), written[:-1])


@pytest.mark.parametrize("name", [*ORDERS, "raster(axis='columns')", "raster(fed='own')"])
def test_plans_are_sent_to_other_processes_by_name(name):
    plan = plan_for(name, ((2, 3),))
    assert pickle.loads(pickle.dumps(plan)) is plan
    assert copy.deepcopy(plan) is plan
    assert len(pickle.dumps(plan)) < 200


def test_plans_without_a_name_are_sent_whole():
    plan = neighbours()
    again = pickle.loads(pickle.dumps(plan))
    assert torch.equal(again.read_outs.source, plan.read_outs.source)
    assert [step.run.tolist() for step in again.steps] == [[], [0], [1, 3], [2, 4]]
