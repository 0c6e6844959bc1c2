"""The fused decoder computes what the decoder of transformers does."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from unified.backbone.decoder import run_layers
from unified.backbone.fused import FusedLayers
from unified.backbone.layer_pass import Pass
from unified.decoding.guidance import Constant
from unified.decoding.session import Session
from unified.layout.attention import Index


def passes(model, layers):
    """Hidden states of passes over one cache whose rows differ in length, and its keys."""
    generator = torch.Generator().manual_seed(0)
    cache, found, width = model.new_cache(2, 4), [], model.config.hidden_size
    for start, count, labels in ((0, 5, range(5)), (5, 3, [5] * 3), (8, 1, [6])):
        x = torch.randn(2, count, width, generator=generator)
        places = torch.arange(start, start + count) + torch.tensor([0.0, 1.0, 2.5])[:, None, None]
        label = torch.tensor([list(labels)] * 2)
        zero = torch.zeros_like(label)
        sample = torch.zeros_like(label)
        sample[1, 2:] = -1
        append = cache.append(Index(sample, zero, zero, label), (sample == 0).sum(dim=1).numpy())
        run = Pass(append.query, places.expand(3, 2, count), append=append)
        states = run_layers([layers], x, run)[0]
        append.commit()
        found.append(torch.cat([states[0], states[1, :2]]))
    return found + [store.both[0, :, :9] for store in cache.stores]


def test_states_and_keys_agree(model):
    with torch.no_grad():
        expected = passes(model, model.library)
        found = passes(model, FusedLayers(model.backbone))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("guidance", [None, Constant(2.0)])
def test_a_session_says_the_same(make_model, stream, guidance):
    def talk(model):
        session = Session(model, rows=2, seed=3)
        asked = [[{"role": "user", "content": text}] for text in ("a", "bcd")]
        session.feed([stream.encode(messages, prompt=True) for messages in asked])
        list(session.text(max_tokens=5, draw=False))
        session.draw([1, 2, (2, 3)], guidance=guidance)
        session.action()
        return session.streams

    model = make_model()
    plain = talk(model)
    assert talk(model.fuse()) == plain
    assert model.fused is not None


def test_weights_that_change_are_not_forgotten(make_model):
    model = make_model().fuse()
    assert copy.deepcopy(model).train().fused is None
    assert model.eval().fused is not None
    assert copy.deepcopy(model).double().fused is None
    model.load_state_dict(model.state_dict())
    assert model.fused is None


def test_other_decoders_stay_as_they_are(make_model):
    small = LlamaConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8
    )
    with pytest.raises(ValueError, match="only a plain qwen3_vl_text decoder"):
        FusedLayers(LlamaModel(small))
    model = make_model(backbone={**small.to_dict(), "vocab_size": 8})
    assert model.fuse().fused is None
    biased = make_model()
    biased.backbone.config.attention_bias = True
    assert biased.fuse().fused is None
    adapted = make_model()
    adapted.backbone.layers[0].mlp.up_proj = torch.nn.Sequential(adapted.backbone.layers[0].mlp.up_proj)
    assert adapted.fuse().fused is None
