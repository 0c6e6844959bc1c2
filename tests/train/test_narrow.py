"""Fewer neurons in the networks of a decoder's layers."""

import pytest
import torch
from unified.train.narrow import main, narrowed

from unified.apps.demo import random_model
from unified.model import UnifiedConfig, UnifiedModel
from unified.pretrained import load_model, save_model


def asked(model):
    words = model.vocabulary
    return torch.tensor([[words.begin, words.user, 1, 2, 3, words.end, words.assistant, 4, 5, words.end]])


@torch.no_grad()
def test_neurons_that_say_nothing_go_first_and_are_not_missed():
    model, _ = random_model()
    before = model.backbone.config.intermediate_size
    silent = slice(3, 3 + before // 4)
    for layer in model.backbone.layers:
        layer.mlp.down_proj.weight[:, silent] = 0
    smaller = narrowed(model, before - before // 4)
    assert smaller.config.backbone["intermediate_size"] == before - before // 4
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    torch.testing.assert_close(smaller(asked(model)).log_probs, model(asked(model)).log_probs)
    fewer = narrowed(model, before // 2)
    assert not torch.allclose(fewer(asked(model)).log_probs, model(asked(model)).log_probs, atol=1e-3)


def test_it_goes_through_a_folder(tmp_path):
    model, processor = random_model()
    save_model(tmp_path / "before", model, processor)
    where = ["--model", str(tmp_path / "before"), "--out", str(tmp_path / "after")]
    assert main([*where, "--mlp", "64"]) == 0
    found, _ = load_model(tmp_path / "after")
    assert found.backbone.layers[0].mlp.gate_proj.weight.shape[0] == 64


def test_what_cannot_be_narrowed_is_refused(tmp_path, capsys):
    model, processor = random_model()
    with pytest.raises(ValueError, match="smaller number"):
        narrowed(model, 100_000)
    other = {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2}
    with pytest.raises(ValueError, match="no gated networks"):
        narrowed(UnifiedModel(UnifiedConfig(backbone=other)), 8)
    save_model(tmp_path / "before", model, processor)
    with pytest.raises(SystemExit):
        main(["--model", str(tmp_path / "before"), "--out", str(tmp_path / "after"), "--mlp", "100000"])
    assert capsys.readouterr().err.count("\n") == 1
