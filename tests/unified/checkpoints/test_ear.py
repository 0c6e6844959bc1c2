"""Concept erasure against its released training."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unified.checkpoints.__main__ import main
from unified.checkpoints.ear_verify import Model, prompt_rows

PACK = Path(__file__).parents[4] / "shared" / "golden" / "ear"
needs_golden = pytest.mark.skipif(
    not PACK.is_dir(), reason="the reference vectors (../shared/golden) are absent"
)
CHANGED = {
    "step_loss": 1e-4,
    "window_loss": 1e-4,
    "window_updated": 1,
    "first_update_grad.layers.4.self_attn.v_proj.weight": 1e-5,
    "final.layers.2.self_attn.q_proj.weight": 1e-3,
    "target_hidden.3": 1e-2,
}


@needs_golden
def test_every_tensor_agrees_and_changed_ones_do_not(tmp_path, capsys):
    assert main(["verify", str(PACK)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("skip")] == ["skip tokens: not compared: an input"]
    tensors = load_file(PACK / "io.safetensors")
    for name, by in CHANGED.items():
        flat = tensors[name].view(-1)
        flat[0] = flat[0] + by if flat.is_floating_point() else 1 - int(flat[0])
    for name in ("config.json", "weights.safetensors"):
        shutil.copy(PACK / name, tmp_path)
    save_file(tensors, tmp_path / "io.safetensors")
    assert main(["verify", str(tmp_path)]) == 1
    failed = {line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")}
    assert failed == {f"{name}:" for name in CHANGED}


@needs_golden
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window": None}, "lacks window"),
        ({"trained": ["layers.9.self_attn.q_proj.weight"]}, "no parameter 'layers.9"),
        ({"steps": 5}, "tokens have the shape"),
        ({"inter": 20}, "mlp"),
    ],
)
def test_what_does_not_fit_is_one_line(change, words, tmp_path, capsys):
    config = {**json.loads((PACK / "config.json").read_text()), **change}
    config = {name: value for name, value in config.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name in ("io", "weights"):
        (tmp_path / f"{name}.safetensors").symlink_to(PACK / f"{name}.safetensors")
    assert main(["verify", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_the_null_row_keeps_the_first_and_the_last_id():
    assert prompt_rows([3, 4, 5, 6], 0).tolist() == [[3, 4, 5, 6], [3, 0, 0, 6]]


def test_other_sizes_run_with_weights_in_place_of_the_models():
    sizes = {"V": 11, "hidden": 12, "layers": 2, "heads": 3, "kv": 1, "inter": 10}
    torch.manual_seed(0)
    state = {}
    for layer in range(2):
        start = f"language_model.model.layers.{layer}."
        shapes = {"q_proj": (12, 12), "k_proj": (4, 12), "v_proj": (4, 12), "o_proj": (12, 12)}
        state |= {f"{start}self_attn.{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
        shapes = {"gate_proj": (10, 12), "up_proj": (10, 12), "down_proj": (12, 10)}
        state |= {f"{start}mlp.{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
        for name in ("input_layernorm", "post_attention_layernorm"):
            state[f"{start}{name}.weight"] = torch.ones(12)
    state |= {"language_model.model.embed_tokens.weight": torch.randn(11, 12)}
    state |= {"language_model.model.norm.weight": torch.ones(12), "gen_embed.weight": torch.randn(7, 5)}
    state |= {"gen_aligner.0.weight": torch.randn(6, 5), "gen_aligner.0.bias": torch.randn(6)}
    state |= {"gen_aligner.2.weight": torch.randn(12, 6), "gen_aligner.2.bias": torch.randn(12)}
    model = Model.of(sizes, state)
    inputs = model.embed(torch.tensor([[1, 2, 3]]))
    name = "layers.1.self_attn.q_proj.weight"
    own = dict(model.llama.named_parameters())
    whole = model.hidden(inputs)
    assert torch.equal(model.hidden(inputs, {name: own[name].clone()}), whole)
    assert not torch.allclose(model.hidden(inputs, {name: torch.zeros(12, 12)}), whole)
    assert torch.allclose(model.hidden(inputs[:, :2]), whole[:, :2], atol=1e-5)
