"""What must hold for every registered order. A new order is picked up by itself."""

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.layout.layout import Layout, pack
from unified.orders import ORDERS, GatherFeed, Plan, plan_for
from unified.orders.shapes import area, as_shapes
from unified.stream.messages import Stream

SCHEDULES = {
    "square": as_shapes([1, 2, 4]),
    "free": as_shapes([(1, 2), (3, 2), (2, 5)]),
    "repeated": as_shapes([2, 2, 3]),
    "single": as_shapes([(3, 4)]),
}


@pytest.fixture(scope="session", params=[0, 2], ids=["plain", "merged"])
def model(request, make_model):
    """Every property holds where 2 x 2 codes share a position too."""
    return make_model(vocabulary={"merge": request.param, "orders": NAMES})


@pytest.fixture(scope="session")
def stream(model):
    return Stream(model.vocabulary, byte_tokenizer())


def legal(order: str, name: str) -> bool:
    try:
        plan_for(order, SCHEDULES[name])
    except ValueError:
        return False
    return True


NAMES = [*ORDERS, "raster(axis='columns')", "raster(fed='own')", "diagonal(window=2)"]
CASES = [(order, name) for order in NAMES for name in SCHEDULES if legal(order, name)]


def conversation(stream, order, shapes, generator, text="draw"):
    codes = torch.randint(64, (area(shapes),), generator=generator).tolist()
    image = {"type": "image", "codes": codes, "shapes": [list(s) for s in shapes], "order": order}
    reply = [{"type": "text", "text": "so"}, image, {"type": "text", "text": "done"}]
    return stream.encode([{"role": "user", "content": text}, {"role": "assistant", "content": reply}])


def test_every_order_takes_a_single_map():
    assert {order for order, name in CASES if name == "single"} == set(NAMES)


@pytest.mark.parametrize(("order", "name"), CASES)
def test_every_slot_is_written_in_exactly_one_step(order, name):
    plan = plan_for(order, SCHEDULES[name])
    decided = torch.cat([step.decide for step in plan.steps])
    assert sorted(decided.tolist()) == list(range(area(SCHEDULES[name])))
    for number, step in enumerate(plan.steps):
        assert (plan.labels[step.decide] == number).all()
        assert torch.equal(step.decide, step.decide.sort().values)


@pytest.mark.parametrize(("order", "name"), CASES)
def test_feeds_are_averages(order, name):
    """A map of one colour is fed as that colour (sums of maps, in the residual order, as their sum)."""
    plan = plan_for(order, SCHEDULES[name])
    totals = plan.feed.inputs(torch.ones(plan.length, 1), plan.slots)[~plan.feed.starts]
    torch.testing.assert_close(totals, totals.round(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("order", "name"), CASES)
def test_no_leak(order, name, model, stream):
    """Changing the code at a slot changes no read-out of the same or an earlier step: float64, tolerance
    0."""
    shapes = SCHEDULES[name]
    plan = plan_for(order, shapes)
    double = type(model)(model.config).double().eval()
    double.load_state_dict(model.state_dict())
    generator = torch.Generator().manual_seed(1)
    ids = torch.tensor([conversation(stream, order, shapes, generator)])
    layout = Layout.of(ids, model.vocabulary)
    first = int(layout.writes[0].starts[0])
    before = _readouts(double, ids, layout)
    for slot in torch.randperm(plan.length, generator=generator)[:8].tolist():
        changed = ids.clone()
        code = changed[0, first + slot] - model.vocabulary.visual_start
        changed[0, first + slot] = model.vocabulary.visual_start + (code + 7) % model.vocabulary.visual
        difference = (_readouts(double, changed, layout) - before).abs().amax(dim=-1)[0]
        written = difference[first : first + plan.length]
        assert (written[plan.labels <= plan.labels[slot]] == 0).all()
        assert (difference[:first] == 0).all()
        assert (difference[first + plan.length + 1 :] == 0).all(), "the WRITE part is visible later"
        assert len(plan.steps) == plan.labels[slot] + 1 or (written > 0).any(), "later steps ignore the slot"


@torch.no_grad()
def _readouts(model, ids, layout):
    """[1, T, V]: what is predicted of each token that may be a target."""
    logits = model(ids, layout=layout, return_logits=True).logits
    return logits.masked_fill(logits.isinf() | ~layout.predicted[..., None], 0.0)


@pytest.mark.parametrize(("order", "name"), CASES)
def test_stepwise_cached_logits_equal_one_pass(order, name, model, stream):
    session = Session(model, seed=3)
    session.feed(stream.encode([{"role": "user", "content": "draw a cat"}], prompt=True))
    steps = list(session.image(SCHEDULES[name], order=order))
    ids = torch.tensor(session.streams)
    output = model(ids)
    layout = Layout.of(ids, model.vocabulary)
    first, words = int(layout.writes[0].starts[0]), model.vocabulary
    full = output.logits[0, :, words.visual_start : words.action_start]
    for choice in steps:
        torch.testing.assert_close(choice.logits[0, :, 0], full[first + choice.slots], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("order", "name"), CASES)
def test_one_pass_likelihood_equals_what_was_sampled(order, name, model, stream):
    session = Session(model, rows=2, seed=4)
    session.feed([stream.encode([{"role": "user", "content": t}], prompt=True) for t in ("a", "a house")])
    drawing = session.draw(SCHEDULES[name], order=order)
    for row, ids in enumerate(session.streams):
        output = model(torch.tensor([ids]))
        by_step = output.step_sums[0].sum(dim=0)
        for number, step in enumerate(drawing.plan.steps):
            sampled = drawing.log_probs[row, step.decide].sum()
            torch.testing.assert_close(by_step[number], sampled, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize(("order", "name"), CASES)
def test_packed_equals_unpacked(order, name, model, stream):
    generator = torch.Generator().manual_seed(2)
    samples = [conversation(stream, order, SCHEDULES[name], generator, text) for text in ("", "x", "a dog")]
    packed = pack(samples, sum(map(len, samples)) + 5, model.vocabulary)
    assert len(packed) == 1
    together = model(packed).log_probs[0]
    start = 0
    for sample in sorted(samples, key=len, reverse=True):
        alone = model(torch.tensor([sample])).log_probs[0]
        torch.testing.assert_close(together[start : start + len(sample)], alone, atol=1e-5, rtol=0)
        start += len(sample)


@pytest.mark.parametrize("order", NAMES)
def test_guidance_and_filters_run_in_every_order(order, model, stream):
    session = Session(model, rows=2, seed=0)
    session.feed(
        [stream.encode([{"role": "user", "content": t}], prompt=True) for t in ("red", "a blue one")]
    )
    sampler = Sampler(temperature=0.7, top_k=9, top_p=0.9)
    drawing = session.draw([(2, 3)], order=order, guidance=Constant(2.0), sampler=sampler)
    assert drawing.codes.shape == (2, 6)
    assert stream.decode(session.streams[0])[1]["content"][0]["codes"] == drawing.codes[0].tolist()


def test_a_plan_that_leaks_is_refused():
    feed = GatherFeed.means(torch.tensor([[0, 1]]), 2)
    with pytest.raises(ValueError, match="slot 0 is fed slot 1"):
        Plan(
            shapes=((1, 2),),
            labels=torch.tensor([0, 1]),
            feed=feed,
            read=torch.arange(2),
            read_shapes=((1, 2),),
        )


def test_an_unknown_order_and_an_illegal_schedule_are_refused():
    with pytest.raises(ValueError, match="unknown order 'spiral'"):
        plan_for("spiral", ((2, 2),))
    with pytest.raises(ValueError, match=r"unknown order 'spiral\(turns=2\)'"):
        plan_for("spiral(turns=2)", ((2, 2),))
    with pytest.raises(ValueError, match="diagonal order writes one map"):
        plan_for("diagonal", ((1, 1), (2, 2)))
