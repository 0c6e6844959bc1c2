"""Concept erasure against its released training."""

import sys
from pathlib import Path

import pytest
import torch

from unified.checkpoints.ear_verify import Model, prompt_rows

sys.path.insert(0, str(Path(__file__).parents[2]))
from golden_folders import changed, compared, copied, needs, refused

CHANGED = {
    "step_loss": 1e-4,
    "window_loss": 1e-4,
    "window_updated": 1,
    "first_update_grad.layers.4.self_attn.v_proj.weight": 1e-5,
    "final.layers.2.self_attn.q_proj.weight": 1e-3,
    "target_hidden.3": 1e-2,
}


@needs("ear")
def test_every_tensor_agrees_and_changed_ones_do_not(tmp_path, capsys):
    assert compared("ear", tmp_path, capsys, CHANGED) == ["skip tokens: not compared: an input"]


@needs("ear")
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
    assert words in refused(copied("ear", tmp_path, config=lambda options: changed(options, change)), capsys)


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
