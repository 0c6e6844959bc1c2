"""Gradient checkpointing through the loop: the same gradients, with a depth policy and with parts."""

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.backbone.parts import PARTS, SourceKeys
from unified.layout.layout import Layout
from unified.stream.messages import Stream

CROSS = {"width": 64, "features": 8, "heads": 4, "layers": (1,)}


class LastStepsAreShallow:
    """The second layer is not run by the last step of an image."""

    def runs(self, layer, layers, plan, step):
        return layer == 0 or step < len(plan.steps) - 1


def plugged():
    """One part of each sort, and all their parameters, none of which is zero."""
    torch.manual_seed(1)
    cross = PARTS["cross_attention"](**CROSS)
    adapter, prefix = PARTS["adapter"](), PARTS["prefix"]()
    learned = [torch.nn.Parameter(torch.randn(1, 2, 3, 16)) for _ in range(2)]
    for module in (adapter, prefix, cross):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    parameters = [p for module in (adapter, prefix, cross) for p in module.parameters()] + learned
    return [adapter, prefix, cross.reading(torch.randn(1, 2, 8)), SourceKeys({1: tuple(learned)})], parameters


@pytest.mark.parametrize("with_parts", [False, True], ids=["bare", "parts"])
@pytest.mark.parametrize("depth", [None, LastStepsAreShallow()], ids=["all", "shallow"])
def test_gradients_are_the_same(make_model, depth, with_parts):
    found, calls = [], []
    for checkpointing in (False, True):
        model = make_model().train()
        if checkpointing:
            model.activation_checkpointing_enable()
        layer = model.backbone.layers[0].input_layernorm
        layer.register_forward_hook(lambda *_: calls.append(1))
        stream = Stream(model.vocabulary, byte_tokenizer())
        drawn = {"type": "image", "codes": list(range(11)), "shapes": [[1, 1], [2, 2], [2, 3]]}
        reply = [{"type": "text", "text": "so"}, {**drawn, "order": "next_scale"}]
        ids = torch.tensor([stream.encode([{"role": "assistant", "content": reply}])])
        parts, parameters = plugged() if with_parts else ([], [])
        labels = Layout.of(ids, model.vocabulary).labels(ids)
        model(ids, labels=labels, depth=depth, parts=parts).loss.backward()
        found.append([p.grad for p in (*model.parameters(), *parameters)])
        calls.append(0)
    assert calls == [1, 0, 1, 1, 0], "a checkpointed layer runs a second time"
    for plain, checkpointed in zip(*found, strict=True):
        assert (plain is None) == (checkpointed is None)
        if plain is not None:
            torch.testing.assert_close(plain, checkpointed)
