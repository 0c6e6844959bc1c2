"""The default decoder against the library's: weights, angles, outputs, gradients, checkpointing, imports."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig

from unified.backbone import library
from unified.backbone.qwen3_config import Qwen3Config, is_default
from unified.backbone.qwen3_decoder import Qwen3Decoder
from unified.config import text_decoder
from unified.core_model import CoreModel
from unified.layout.layout import Layout
from unified.model import UnifiedConfig, UnifiedModel

SIZES = [
    {"width": 64, "layers": 2, "heads": 4, "kv_heads": 2},
    {"width": 96, "layers": 3, "heads": 2, "kv_heads": 1},
]


def fields(size) -> dict:
    return {**text_decoder(**size), "vocab_size": 40}


def both(size):
    """Our decoder and the library's from the same seed."""
    torch.manual_seed(1)
    ours = Qwen3Decoder(AutoConfig.for_model(**fields(size)))
    torch.manual_seed(1)
    return ours, library.build(AutoConfig.for_model(**fields(size)), pretrained=False)


@pytest.mark.parametrize("size", SIZES, ids=["two layers", "three layers"])
def test_the_same_seed_begins_with_the_weights_of_the_library(size):
    ours, theirs = (decoder.state_dict() for decoder in both(size))
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("size", SIZES, ids=["two layers", "three layers"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_angles_are_those_of_the_library(size, dtype):
    ours, theirs = both(size)
    positions = torch.rand(3, 2, 5, generator=torch.Generator().manual_seed(0)) * 30
    hidden = torch.zeros(1, dtype=dtype)
    pairs = zip(ours.rotary_emb(hidden, positions), theirs.rotary_emb(hidden, positions), strict=True)
    assert all(torch.equal(mine, other) for mine, other in pairs)


def models(monkeypatch, size):
    """A model with our decoder and one with the library's, with the same weights."""
    torch.manual_seed(0)
    ours = UnifiedModel(UnifiedConfig(backbone=text_decoder(**size), initializer_range=0.2))
    with monkeypatch.context() as patched:
        patched.setattr(
            "unified.core_model.build_decoder", lambda config, pretrained: library.build(config, pretrained)
        )
        theirs = UnifiedModel(UnifiedConfig(backbone=text_decoder(**size)))
    assert type(theirs.backbone).__module__.startswith("transformers")
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("size", SIZES, ids=["two layers", "three layers"])
def test_likelihoods_and_gradients_are_those_of_the_library(monkeypatch, size):
    ours, theirs = models(monkeypatch, size)
    words = ours.vocabulary
    ids = torch.tensor([[words.begin, words.user, 5, 6, words.end, words.assistant, 7, 8, 9, words.end]])
    layout = Layout.of(ids, words)
    found = [model(ids, labels=layout.labels(ids), layout=layout) for model in (ours, theirs)]
    torch.testing.assert_close(found[0].log_probs, found[1].log_probs)
    for one in found:
        one.loss.backward()
    for (name, mine), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert (mine.grad is None) == (other.grad is None), name
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad, atol=1e-6, rtol=1e-4)


def test_gradient_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    model = UnifiedModel(UnifiedConfig()).train()
    ids = torch.tensor([[model.vocabulary.begin, model.vocabulary.assistant, 5, 6, 7, model.vocabulary.end]])
    calls, grads = [], []
    model.backbone.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    for checkpointed in (False, True):
        if checkpointed:
            model.activation_checkpointing_enable()
        model.zero_grad()
        model(ids, labels=ids).loss.backward()
        grads.append(model.backbone.layers[0].mlp.up_proj.weight.grad.clone())
    assert torch.equal(*grads)
    assert len(calls) == 1 + 2  # run once more in the backward pass


def test_other_options_are_the_librarys():
    assert is_default(Qwen3Config(**{k: v for k, v in fields(SIZES[0]).items() if k != "model_type"}))
    model = UnifiedModel(UnifiedConfig(backbone={**text_decoder(**SIZES[0]), "attention_bias": True}))
    assert type(model.backbone).__module__.startswith("transformers")
    with pytest.raises(ValueError, match="plain qwen3_vl_text"):
        Qwen3Decoder(model.backbone.config)


def test_configuration_has_the_fields_and_defaults_of_the_librarys():
    given = {name: value for name, value in fields(SIZES[0]).items() if name != "model_type"}
    theirs = AutoConfig.for_model("qwen3_vl_text", **given).to_dict()
    assert Qwen3Config(**given).to_dict() == theirs


def test_core_and_library_model_begin_and_compute_alike():
    config = UnifiedConfig(extras={"transition": {"channels": 8}, "reference": {}})
    torch.manual_seed(0)
    core = CoreModel(config).eval()
    torch.manual_seed(0)
    model = UnifiedModel(config).eval()
    ours, theirs = core.state_dict(), model.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    again = core.library_model()
    assert isinstance(again, UnifiedModel)
    with torch.no_grad():
        core.text_head.weight.zero_()
    assert not again.text_head.weight.any()  # the weights are shared


def test_verbs_import_no_model_class_of_transformers():
    heavy = "transformers.modeling_utils", "torch._dynamo", "torch.distributed.tensor"
    code = f"import sys, unified; unified.load(); print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
