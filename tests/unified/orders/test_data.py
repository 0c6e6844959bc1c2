"""Orders that are given numbers with each sample: the ids spell them, so that they alone say how it is laid
out."""

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.decoding.guidance import Constant
from unified.decoding.session import Session
from unified.orders import ORDERS, GatherFeed, Plan, plan_for
from unified.stream.messages import Stream


def permuted(shapes, *, data):
    """One map whose slots are written in the order of their numbers in `data`, each fed the one before."""
    count = shapes[0][0] * shapes[0][1]
    if sorted(data) != list(range(1, count + 1)):
        raise ValueError(f"a map of {count} codes needs a permutation of 1..{count}, got {data}")
    labels = torch.tensor(data) - 1
    slots = labels.argsort()
    feed = GatherFeed.means(torch.stack([slots[1:], slots[:-1]], dim=1), count)
    return Plan(shapes=shapes, labels=labels, feed=feed, read=torch.arange(count), read_shapes=shapes)


DATA = (3, 1, 6, 2, 5, 4)


@pytest.fixture(scope="module", autouse=True)
def registered():
    ORDERS["permuted"] = permuted
    yield
    ORDERS.pop("permuted")


@pytest.fixture(scope="module")
def model(make_model, registered):
    return make_model(vocabulary={"orders": ["permuted"]}, read_outs=1)


@pytest.fixture(scope="module")
def stream(model):
    return Stream(model.vocabulary, byte_tokenizer())


def chat(data=DATA):
    image = {
        "type": "image",
        "codes": [9, 8, 7, 6, 5, 4],
        "shapes": [[2, 3]],
        "order": "permuted",
        "data": list(data),
    }
    return [
        {"role": "user", "content": [{"type": "text", "text": "draw"}]},
        {"role": "assistant", "content": [image]},
    ]


def test_the_ids_spell_the_data_and_give_it_back(stream):
    assert stream.decode(stream.encode(chat())) == chat()
    assert stream.encode(chat()) != stream.encode(chat(DATA[::-1]))


@pytest.mark.parametrize("guidance", [None, Constant(2.0)], ids=["plain", "guided"])
def test_stepwise_is_one_pass(model, stream, guidance):
    session = Session(model, rows=2, seed=3)
    session.feed([stream.encode([{"role": "user", "content": t}], prompt=True) for t in ("a", "a house")])
    steps = list(session.image([(2, 3)], order="permuted", data=DATA, guidance=guidance))
    assert [int(choice.slots[0]) for choice in steps] == [1, 3, 0, 5, 4, 2]
    list(session.text(max_tokens=3, draw=False))
    if guidance is None:
        for row, ids in enumerate(session.streams):
            sums = model(torch.tensor([ids])).step_sums[0].sum(dim=0)
            sampled = session.drawing.log_probs[row, session.drawing.plan.labels.argsort()]
            torch.testing.assert_close(sums, sampled, atol=1e-4, rtol=0)
    session.draw([(2, 3)], order="permuted", data=DATA[::-1], guidance=guidance)
    assert stream.decode(session.streams[0])[1]["content"][-1]["data"] == list(DATA[::-1])


def test_the_null_stream_keeps_the_header(model, stream):
    ids = stream.encode(chat())
    assert stream.decode(model.null_stream(ids))[1] == chat()[1]


def test_data_that_does_not_fit_is_refused(model, stream):
    with pytest.raises(ValueError, match="needs a permutation of"):
        stream.encode(chat((1, 2, 3)))
    with pytest.raises(ValueError, match="data is for the order"):
        stream.encode(
            [{"role": "user", "content": [{"type": "image", "codes": [1], "shapes": [[1, 1]], "data": [1]}]}]
        )
    with pytest.raises(ValueError, match="outside 1"):
        model.vocabulary.open_write("permuted", [(2, 3)], [65])
    words = model.vocabulary
    header = [*words.open_write("permuted", [(2, 3)]), words.part]
    with pytest.raises(ValueError, match="must be a number for the order"):
        stream.decode([words.begin, words.assistant, *header, *words.visual_ids([0] * 6), words.close])
    with pytest.raises(ValueError, match="data"):
        plan_for("raster", ((2, 2),), (1,))
