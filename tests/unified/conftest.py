"""A tiny model with large random weights, so that a wrong mask or feed shows."""

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.model import UnifiedConfig, UnifiedModel
from unified.orders import ORDERS, plan_for
from unified.stream.messages import Stream

LOUD = {  # weights that begin as zero, or as part of the identity
    "reference.projection": 0.3,
    "copy_gate.gate": 0.3,
    "transition.exit": 0.3,
    "own_state.out": 0.1,
}


def tiny_model(vocabulary=None, **config) -> UnifiedModel:
    """With as many read-outs as the orders need that `vocabulary` names."""
    torch.manual_seed(0)
    named = (vocabulary or {}).get("orders", ())
    heads = config.get("read_outs") or max((plan_for(name, ((2, 2),)).heads for name in named), default=1)
    vocabulary = {"orders": list(ORDERS), **(vocabulary or {})}
    extras = {"reference": {}, "copy_gate": {}, "transition": {"channels": 8}, "grid": {}}
    extras |= {"own_state": {}} if vocabulary.get("merge") else {}
    config = {"extras": extras, "read_outs": heads, "initializer_range": 0.2, **config}
    model = UnifiedModel(UnifiedConfig(vocabulary=vocabulary, **config)).eval()
    for name, std in LOUD.items():
        if name.split(".")[0] in model.extras:
            torch.nn.init.normal_(model.extras.get_submodule(name).weight, std=std)
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
