"""Weak-to-strong guidance: g = 1 is classifier-free guidance bit for bit, g = 0 runs no null branch."""

import pytest
import torch

from unified.decoding.guidance import Constant
from unified.decoding.session import Session
from unified.decoding.weak_guidance import WeakModel, WeakToStrong
from unified.model import UnifiedConfig, UnifiedModel

SHAPES = [1, 2, 4]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return UnifiedModel(UnifiedConfig(vocabulary={"visual": 16})).eval()


def weak_of(model, *, changed):
    torch.manual_seed(1)
    weak = WeakModel(model.width, 1, 16, steps=3)
    if changed:
        torch.nn.init.normal_(weak.outer.weight)
    return weak.requires_grad_(False)


def drawn(model, guidance):
    session = Session(model, rows=2, seed=4)
    words = model.vocabulary
    session.feed([words.begin, words.user, 7, words.end, words.assistant])
    drawing = session.draw(SHAPES, guidance=guidance)
    return drawing, session.context.cache.rows


def test_strength_one_is_guidance(model):
    weak = weak_of(model, changed=True)
    one, other = drawn(model, WeakToStrong(weak, 3.0, 1.0))[0], drawn(model, Constant(3.0))[0]
    assert torch.equal(one.codes, other.codes)
    assert torch.equal(one.log_probs, other.log_probs)


def test_strength_zero_draws_from_the_weak_model_without_a_null_branch(model):
    plain, rows = drawn(model, None)
    assert rows == 2
    same, rows = drawn(model, WeakToStrong(weak_of(model, changed=False), 3.0, 0.0))
    assert rows == 2
    assert torch.equal(plain.log_probs, same.log_probs)
    other, _ = drawn(model, WeakToStrong(weak_of(model, changed=True), 3.0, 0.0))
    assert not torch.equal(plain.log_probs, other.log_probs)


def test_slow_steps_come_first(model):
    weak = weak_of(model, changed=True)
    mixed = drawn(model, WeakToStrong(weak, 3.0, 1.0, slow=1))[0]
    guided, fast = drawn(model, Constant(3.0))[0], drawn(model, WeakToStrong(weak, 3.0, 0.0))[0]
    assert torch.equal(mixed.log_probs[:, :1], guided.log_probs[:, :1])
    assert not torch.equal(mixed.log_probs[:, 1:], guided.log_probs[:, 1:])
    assert not torch.equal(mixed.log_probs, fast.log_probs)


def test_refusals():
    with pytest.raises(ValueError, match="strength"):
        WeakToStrong(None, 2.0, -1.0)
    with pytest.raises(ValueError, match="slow"):
        WeakToStrong(None, 2.0, slow=-1)
