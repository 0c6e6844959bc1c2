"""Long prompts are read in pieces, with the states of one pass; more than the model's context is refused."""

import pytest
import torch

from unified.config import text_decoder
from unified.decoding import context
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session


def conversations(stream):
    image = {"type": "image", "codes": list(range(16)), "shapes": [[4, 4]]}
    text = {"type": "text", "text": "a text of some length"}
    talks = [[text, image, text, image], [image, {"type": "text", "text": "short"}], [text]]
    return [stream.encode([{"role": "user", "content": items}], prompt=True) for items in talks]


def passes_of(session, model, ids):
    """Feeds the ids: how many positions each pass had."""
    widths = []
    hook = model.backbone.layers[0].register_forward_pre_hook(
        lambda _, given: widths.append(given[0].shape[1])
    )
    session.feed(ids)
    hook.remove()
    return widths


@pytest.mark.parametrize("merge", [0, 4])
@pytest.mark.parametrize("most", [1, 5, 40])
def test_pieces_give_what_one_pass_gives(make_model, stream, monkeypatch, merge, most):
    model = make_model({"merge": merge})
    whole, pieces = Session(model, rows=3, seed=3), Session(model, rows=3, seed=3)
    assert len(passes_of(whole, model, conversations(stream))) == 1
    monkeypatch.setattr(context, "PREFILL", most)
    widths = passes_of(pieces, model, conversations(stream))
    assert len(widths) > 1
    assert max(widths) <= max(most, 16 + 2 + 2)  # an image is read in one pass
    assert torch.allclose(pieces.last, whole.last, atol=1e-4)
    assert (pieces.context.cache.lengths == whole.context.cache.lengths).all()
    said = [
        [list(ids) for ids in session.text(sampler=Sampler(temperature=0), max_tokens=5)]
        for session in (whole, pieces)
    ]
    assert said[0] == said[1]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_a_later_piece_that_breaks_off_leaves_nothing_behind(model, stream, monkeypatch, kind):
    monkeypatch.setattr(context, "PREFILL", 6)
    ids, calls = conversations(stream)[0], []

    def break_off(*_):
        calls.append(1)
        if len(calls) == 3:
            raise kind

    plain, broken = Session(model, seed=4), Session(model, seed=4)
    hook = model.backbone.layers[1].mlp.register_forward_hook(break_off)
    with pytest.raises(kind):
        broken.feed(ids)
    hook.remove()
    assert broken.context.cache.length == 0
    assert broken.last is None
    broken.read_pending()
    plain.feed(ids)
    assert torch.equal(broken.last, plain.last)


def test_what_exceeds_the_context_is_refused_and_nothing_changed(make_model, stream):
    model = make_model(backbone={**text_decoder(), "max_position_embeddings": 60})
    assert model.context_length == 60
    session = Session(model)
    session.feed(stream.encode([{"role": "user", "content": "x" * 40}]))
    before = session.streams
    turn = stream.turn({"role": "user", "content": "y" * 30})
    for defer in (False, True):
        with pytest.raises(ValueError, match="75 positions, and the model's context has 60: shorten"):
            session.feed(turn, defer=defer)
    assert session.streams == before
    session.feed(stream.turn({"role": "user", "content": "y" * 10}))


def test_only_what_is_read_counts(make_model, stream):
    """Codes that are written are not read; four merged codes share a position."""
    drawn = {"type": "image", "codes": list(range(16)) * 2, "shapes": [[4, 4]] * 2, "order": "next_scale"}
    talk = [{"role": "assistant", "content": [drawn]}]
    for merge, held in ((0, 16), (4, 4)):
        vocabulary = {"merge": merge}
        needed = Session(make_model(vocabulary))
        needed.feed(stream.encode(talk))
        length = needed.context.cache.length
        assert held < length < 32
        for room, fits in ((length, True), (length - 1, False)):
            backbone = {**text_decoder(), "max_position_embeddings": room}
            session = Session(make_model(vocabulary, backbone=backbone))
            if fits:
                session.feed(stream.encode(talk))
                continue
            with pytest.raises(ValueError, match="shorten"):
                session.feed(stream.encode(talk))
