"""A tiny model with large random weights, so that a wrong mask or feed shows."""

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.model import UnifiedConfig, UnifiedModel
from unified.orders import ORDERS, plan_for
from unified.stream.messages import Stream


def tiny_model(vocabulary=None, **config) -> UnifiedModel:
    """With as many read-outs as the orders need that `vocabulary` names."""
    torch.manual_seed(0)
    named = (vocabulary or {}).get("orders", ())
    heads = config.get("read_outs") or max((plan_for(name, ((2, 2),)).heads for name in named), default=1)
    vocabulary = {"orders": list(ORDERS), **(vocabulary or {})}
    options = {"references": True, "copies": True, "transition": 8, "grid": True, "initializer_range": 0.2}
    config = {**options, "read_outs": heads, **config}
    model = UnifiedModel(UnifiedConfig(vocabulary=vocabulary, **config)).eval()
    if model.slots.reference is not None:  # part of the identity at the start of training
        torch.nn.init.normal_(model.slots.reference.weight, std=0.3)
    if model.slots.copying is not None:  # zero at the start of training
        torch.nn.init.normal_(model.slots.copying.weight, std=0.3)
    if model.slots.transition is not None:
        torch.nn.init.normal_(model.slots.transition.exit.weight, std=0.3)
    if model.slots.own is not None:  # zero too
        torch.nn.init.normal_(model.slots.own.out.weight, std=0.1)
    return model


@pytest.fixture(scope="session")
def make_model():
    return tiny_model


@pytest.fixture(scope="session")
def model() -> UnifiedModel:
    return tiny_model()


@pytest.fixture(scope="session")
def stream(model) -> Stream:
    return Stream(model.vocabulary, byte_tokenizer())
