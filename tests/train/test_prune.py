"""Structured pruning of the MLPs of a decoder."""

import pytest
import torch
from unified.train import narrow
from unified.train.prune import main, pruned

from unified.apps.demo import random_model
from unified.pretrained import load_model, save_model


def asked(model):
    words = model.vocabulary
    return torch.tensor([[words.begin, words.user, 1, 2, 3, words.end, words.assistant, 4, 5, words.end]])


@torch.no_grad()
def test_neurons_of_zero_weight_are_pruned_first_and_change_nothing():
    model, _ = random_model()
    before = model.backbone.config.intermediate_size
    silent = slice(3, 3 + before // 4)
    for layer in model.backbone.layers:
        layer.mlp.down_proj.weight[:, silent] = 0
    smaller = pruned(model, before - before // 4)
    assert smaller.config.backbone["intermediate_size"] == before - before // 4
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    torch.testing.assert_close(smaller(asked(model)).log_probs, model(asked(model)).log_probs)
    fewer = pruned(model, before // 2)
    assert not torch.allclose(fewer(asked(model)).log_probs, model(asked(model)).log_probs, atol=1e-3)


def test_it_goes_through_a_folder(tmp_path):
    model, processor = random_model()
    save_model(tmp_path / "before", model, processor)
    where = ["--model", str(tmp_path / "before"), "--out", str(tmp_path / "after")]
    assert main([*where, "--mlp", "64"]) == 0
    found, _ = load_model(tmp_path / "after")
    assert found.backbone.layers[0].mlp.gate_proj.weight.shape[0] == 64


def test_the_former_name_is_the_same_command():
    assert narrow.main is main


def test_what_cannot_be_pruned_is_refused(tmp_path, capsys):
    model, processor = random_model()
    with pytest.raises(ValueError, match="smaller number"):
        pruned(model, 100_000)
    ungated, _ = random_model()
    del ungated.backbone.layers[0].mlp.gate_proj
    with pytest.raises(ValueError, match="no gated MLPs"):
        pruned(ungated, 8)
    save_model(tmp_path / "before", model, processor)
    with pytest.raises(SystemExit):
        main(["--model", str(tmp_path / "before"), "--out", str(tmp_path / "after"), "--mlp", "100000"])
    assert capsys.readouterr().err.count("\n") == 1
