"""Next-neighbour prediction against its definition (the generic properties are in `test_orders.py`)."""

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.decoding.guidance import Constant
from unified.decoding.session import Session
from unified.layout.layout import Layout
from unified.orders import BEFORE, NOTHING, plan_for
from unified.stream.messages import Stream

SHAPES = ((3, 4),)


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(vocabulary={"orders": ["nar"]})


@pytest.fixture(scope="module")
def stream(model):
    return Stream(model.vocabulary, byte_tokenizer())


def test_a_map_is_written_along_its_diagonals():
    plan = plan_for("nar", SHAPES)
    assert plan.labels.tolist() == [0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5]
    assert [step.decide.tolist() for step in plan.steps] == [[0], [1, 4], [2, 5, 8], [3, 6, 9], [7, 10], [11]]
    assert [step.run.tolist() for step in plan.steps[:3]] == [[], [0], [1, 4]]
    assert len(plan_for("nar", ((16, 16),)).steps) == 31


def test_codes_are_read_out_at_their_neighbours():
    """Head 0 to the right, head 1 below; both at the position before for the first code."""
    plan = plan_for("nar", SHAPES)
    assert plan.heads == 2
    for slot, (sources, heads) in enumerate(
        zip(plan.read_outs.source.tolist(), plan.read_outs.head.tolist(), strict=True)
    ):
        row, column = divmod(slot, 4)
        assert heads == [0, 1]
        if slot == 0:
            assert sources == [BEFORE, BEFORE]
        else:
            assert sources == [slot - 1 if column else NOTHING, slot - 4 if row else NOTHING]


def test_frames_have_a_third_head():
    """Maps of one size: a code is also predicted at its place in the frame before."""
    plan = plan_for("nar", ((2, 3),) * 4)
    assert plan.heads == 3
    assert len(plan.steps) == 4 + 2 + 3 - 2
    slots = torch.arange(24).view(4, 2, 3)
    for frame, row, column in ((0, 0, 2), (0, 1, 0), (3, 0, 0), (2, 1, 1)):
        slot = int(slots[frame, row, column])
        assert plan.labels[slot] == frame + row + column
        assert plan.read_outs.source[slot].tolist() == [
            slot - 1 if column else NOTHING,
            slot - 3 if row else NOTHING,
            slot - 6 if frame else NOTHING,
        ]
    assert plan.read_outs.source[0].tolist() == [BEFORE] * 3
    assert plan_for("nar(heads=3)", SHAPES).read_outs.source[0].tolist() == [BEFORE] * 3


def test_what_does_not_fit_is_refused(make_model):
    with pytest.raises(ValueError, match="one map or frames of one size"):
        plan_for("nar", ((1, 1), (2, 2)))
    with pytest.raises(ValueError, match=r"2 heads .* or 3 .*, got 1"):
        plan_for("nar(heads=1)", SHAPES)
    with pytest.raises(ValueError, match="slot 4 is read out nowhere"):
        plan_for("nar(heads=2)", ((2, 2), (2, 2)))
    single = make_model(vocabulary={"orders": ["nar"]}, read_outs=1)
    session = Session(single)
    session.feed([single.vocabulary.begin, single.vocabulary.user])
    with pytest.raises(ValueError, match="set read_outs=2 in its configuration"):
        session.draw(SHAPES, order="nar")


def drawn(stream, generator):
    codes = torch.randint(64, (12,), generator=generator).tolist()
    image = {"type": "image", "codes": codes, "shapes": [list(shape) for shape in SHAPES], "order": "nar"}
    turns = [{"role": "user", "content": "draw"}, {"role": "assistant", "content": [image]}]
    return torch.tensor([stream.encode(turns)])


@torch.no_grad()
def test_logits_are_the_mean_of_two_heads(model, stream):
    """By hand: head 0 at the left neighbour, head 1 at the upper one, both at the header's last id."""
    ids = drawn(stream, torch.Generator().manual_seed(0))
    layout = Layout.of(ids, model.vocabulary)
    first = int(layout.writes[0].starts[0])
    embeds, slots = model._embed(ids, layout, None)
    states = model.decode(embeds, layout)
    right, below = (
        head.logits(model._slot_states(hidden, slots))[0, :, 0]
        for head, hidden in zip(model.heads, states, strict=True)
    )
    expected = torch.zeros(3, 4, 64)
    for row in range(3):
        for column in range(4):
            slot = first + 4 * row + column
            if row and column:
                expected[row, column] = (right[slot - 1] + below[slot - 4]) / 2
            elif column:
                expected[row, column] = right[slot - 1]
            elif row:
                expected[row, column] = below[slot - 4]
            else:
                expected[row, column] = (right[slot - 1] + below[slot - 1]) / 2
    start = model.vocabulary.visual_start
    logits = model(ids, return_logits=True).logits[0, first : first + 12, start : start + 64]
    torch.testing.assert_close(logits, expected.view(12, 64))


def test_both_heads_learn(model, stream):
    ids = drawn(stream, torch.Generator().manual_seed(1))
    layout = Layout.of(ids, model.vocabulary)
    model.zero_grad()
    model(ids, labels=layout.labels(ids), layout=layout).loss.backward()
    parts = [model.head.projection, *model.read_outs.modules()]
    weights = [weight for part in parts for weight in part.parameters(recurse=False)]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)
    model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("guidance", [None, Constant(2.0)])
def test_fused_layers_write_the_same(make_model, stream, guidance):
    def draw(model):
        session = Session(model, rows=2, seed=3)
        session.feed([stream.encode([{"role": "user", "content": t}], prompt=True) for t in ("a", "bcd")])
        return session.draw(SHAPES, order="nar", guidance=guidance).codes

    model = make_model(vocabulary={"orders": ["nar"]})
    plain = draw(model)
    assert torch.equal(draw(model.fuse()), plain)
    assert model.fused is not None


def test_one_shared_head_reads_out_in_all_directions():
    shared, usual = (plan_for(name, ((3, 3),)) for name in ("nar(shared=True)", "nar"))
    assert shared.heads == 1
    assert torch.equal(shared.read_outs.source, usual.read_outs.source)
