"""Cached steps of an image need no mask of rows, queries and keys: all queries of a row see the same."""

import pytest
import torch
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.residual_vq import ResidualVQConfig, ResidualVQTokenizer
from unified.tokenizers.text import byte_tokenizer

from unified.checkpoints.adaln import TransformerConfig
from unified.checkpoints.var import VAR
from unified.decoding.guidance import Constant
from unified.decoding.session import Session
from unified.layout import attention
from unified.stream.messages import Stream

SHAPES = ((1, 1), (2, 2), (3, 3))


@pytest.fixture
def masks(monkeypatch):
    """Every mask that the attention rule is asked for and every one that a layer is handed, as they come."""
    built, handed, seen = [], [], attention.Seen.__init__

    def noted(query, key, ask=attention.visible):
        built.append(ask(query, key))
        return built[-1]

    def kept(self, mask=None, lengths=None):
        handed.append(mask)
        seen(self, mask, lengths)

    monkeypatch.setattr("unified.cache.kv_cache.visible", noted)
    monkeypatch.setattr(attention.Seen, "__init__", kept)
    return built, handed


def largest(masks):
    """Queries of the largest mask."""
    return max((mask.shape[2] for found in masks for mask in found if mask is not None), default=0)


@pytest.mark.parametrize("static", [False, True], ids=["growing", "static"])
@pytest.mark.parametrize("order", ["next_scale", "residual", "raster", "diagonal"])
@pytest.mark.parametrize("guidance", [None, Constant(2.0)], ids=["plain", "guided"])
def test_steps_of_an_image_in_rows_of_unequal_length(model, guidance, order, static, masks):
    stream = Stream(model.vocabulary, byte_tokenizer())
    session = Session(model, rows=3)
    if static:
        session.keep_in(model.new_cache(6, 100, static=True))
    session.feed([stream.encode([{"role": "user", "content": "a" * n}], prompt=True) for n in (1, 9, 4)])
    if guidance:
        session.read_null()
    shapes = [(3, 3)] if order in ("raster", "diagonal") else SHAPES
    steps = session.image(shapes, order=order, guidance=guidance)
    next(steps)  # with the header of the image, which is text
    for found in masks:
        found.clear()
    count = sum(1 for _ in steps)
    built, handed = masks
    assert count > 1
    assert len(built) == count, "one look at the rule for each pass: layers share what they hold"
    assert largest(masks) == 1
    assert all(mask.shape[:3] == (6 if guidance else 3, 1, 1) for mask in built)
    assert len(handed) == count


def test_a_guided_step_of_var_has_no_mask_at_all(masks):
    network = NetworkConfig(latent=8, width=32, multipliers=(1, 1), blocks=0)
    tokenizer = ResidualVQTokenizer(ResidualVQConfig(codes=16, network=network, sizes=(1, 2, 3))).eval()
    torch.manual_seed(0)
    model = VAR(TransformerConfig(codes=16, code_width=8, width=32, shapes=SHAPES), tokenizer).eval()
    session = Session(model, rows=2)
    session.feed([model.prompt(label) for label in (1, 2)])
    session.draw(SHAPES, order=model.order, guidance=Constant(2.0))
    assert masks == ([None] * 3, [None] * 3)
