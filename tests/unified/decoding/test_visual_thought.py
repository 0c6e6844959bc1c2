"""Thoughts: one's own is what drawing in place gives, none changes nothing, foreign and filler say whose."""

import pytest
import torch

from unified.config import UnifiedConfig, text_decoder
from unified.decoding.session import Session
from unified.decoding.visual_thought import THOUGHTS, draw_ahead, think
from unified.model import UnifiedModel
from unified.stream.vocabulary import Vocabulary

SHAPES = ((2, 2), (4, 4))
READ = ((4, 4),)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    words = Vocabulary(text=8, visual=16, action=6, action_slots=2, max_side=8, orders=("next_scale",))
    backbone = text_decoder(width=32, layers=2, heads=2, kv_heads=2)
    found = UnifiedModel(UnifiedConfig(vocabulary=words.to_dict(), backbone=backbone))
    with torch.no_grad():
        for weight in found.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.2)
    return found.eval()


@pytest.fixture(scope="module")
def prompts(model):
    words = model.vocabulary
    return [[words.begin, words.user, n, words.end, words.assistant] for n in (1, 2, 3)]


def opened(model, prompts):
    session = Session(model, rows=len(prompts), seed=5)
    session.feed(prompts)
    return session


def test_an_own_thought_is_what_drawing_in_place_gives(model, prompts):
    drawn = draw_ahead(model, prompts, SHAPES, seed=5, order="next_scale")
    session, other = opened(model, prompts), opened(model, prompts)
    think(session, THOUGHTS["own"], drawn, READ)
    other.draw(SHAPES, order="next_scale")
    other.read_pending()
    assert torch.equal(other.drawing.read(), drawn)
    torch.testing.assert_close(session.last, other.last, atol=1e-5, rtol=1e-5)


def test_no_thought_leaves_a_session_bit_for_bit(model, prompts):
    session, other = opened(model, prompts), opened(model, prompts)
    think(session, THOUGHTS["none"], torch.zeros(3, 16, dtype=torch.long), READ)
    assert session.streams == other.streams
    assert torch.equal(session.last, other.last)
    assert torch.equal(session.action(), other.action())


def test_whose_thought_is_read(model):
    drawn = torch.arange(3)[:, None].expand(3, 16)
    assert torch.equal(THOUGHTS["own"].codes(drawn, READ, 16), drawn)
    assert THOUGHTS["foreign"].codes(drawn, READ, 16)[:, 0].tolist() == [2, 0, 1]
    empty = THOUGHTS["filler"].codes(drawn, READ, 16)
    assert empty.shape == drawn.shape
    assert torch.equal(empty[0], empty[2])
    assert len(empty[0].unique()) > 4
    with pytest.raises(ValueError, match="at least two rows"):
        THOUGHTS["foreign"].codes(drawn[:1], READ, 16)


def test_thoughts_are_equally_long_and_change_what_follows(model, prompts):
    drawn = draw_ahead(model, prompts, SHAPES, seed=5, order="next_scale")
    last, lengths = {}, set()
    for name, thought in THOUGHTS.items():
        session = opened(model, prompts)
        think(session, thought, drawn, READ)
        last[name] = session.last
        lengths |= {len(session.streams[0])} if name != "none" else set()
    assert len(lengths) == 1
    assert not torch.equal(last["own"], last["foreign"])
    assert not torch.equal(last["own"], last["filler"])
