"""`verify` on the golden folder of Latent Sketchpad, and on folders of its form with other sizes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unified.checkpoints.__main__ import main, verify
from unified.checkpoints.latent_sketchpad_verify import load_decoder, load_head

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "latent_sketchpad"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden folder is not here")
pytestmark = needs_golden


@pytest.fixture
def copy(tmp_path):
    for name in ("config.json", "io.safetensors", "weights.safetensors"):
        shutil.copyfile(GOLDEN / name, tmp_path / name)
    return tmp_path


def change(folder, name, file="weights.safetensors"):
    tensors = load_file(folder / file)
    tensors[name] = 1.05 * tensors[name] + 0.01
    save_file(tensors, folder / file)


def test_every_output_agrees():
    checks = list(verify(GOLDEN))
    assert [check.name for check in checks if check.ok is False] == []
    agree = {check.name for check in checks if check.ok}
    for group in ("gemma", "qwen"):
        names = ("out.vit_features", "out.llm_embeds", "infer.out.vit_features", "infer.out.llm_embeds")
        assert {f"{group}.{name}" for name in (*names, "loss.l1")} <= agree
    assert {"gemma.loss.mse", "gemma.loss.cosine", "gemma.rotary", "gemma.target_vit"} <= agree
    assert {"qwen.target_embeds", "aligner.out.image01", "aligner.loss.total"} <= agree
    assert all("unknown name" not in check.detail for check in checks)


@pytest.mark.parametrize(
    "name",
    [
        "gemma.regression_head.mlp.0.bias",
        "gemma.regression_head.perceiver.pos_emb.weight",
        "gemma.regression_head.perceiver.perceive_layers.1.0.to_kv.weight",
        "gemma.regression_head.perceiver.rotary_pos_emb.inv_freq",
        "gemma.multi_modal_projector.mm_soft_emb_norm.weight",
        "qwen.regression_head.perceiver.layers.0.0.to_qkv.weight",
        "qwen.regression_head.perceiver.layers.1.1.4.weight",
        "qwen.visual.merger.ln_q.weight",
        "qwen.visual.merger.mlp.2.bias",
        "aligner.encoder_query",
        "aligner.encoder.layers.0.encoder_attn.v_proj.weight",
        "vae.decoder.up_blocks.1.resnets.0.conv_shortcut.weight",
        "vae.quant_conv.bias",
    ],
)
def test_a_changed_weight_is_noticed(copy, name):
    change(copy, name)
    group = name.split(".")[0].replace("vae", "aligner")
    failed = [check.name for check in verify(copy) if check.ok is False]
    assert failed
    assert all(check.startswith(group) for check in failed)


def test_a_changed_output_is_status_1(copy, capsys):
    change(copy, "qwen.infer.out.vit_features", file="io.safetensors")
    assert main(["verify", str(copy)]) == 1
    assert "FAIL qwen.infer.out.vit_features" in capsys.readouterr().out


@pytest.mark.parametrize("group", ["gemma", "qwen", "aligner"])
def test_a_folder_may_hold_one_group(copy, group):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({group: config[group]}))
    prefixes = (f"{group}.", "vae.") if group == "aligner" else (f"{group}.",)
    for file in ("io.safetensors", "weights.safetensors"):
        tensors = load_file(copy / file)
        save_file({name: x for name, x in tensors.items() if name.startswith(prefixes)}, copy / file)
    checks = list(verify(copy))
    assert checks
    assert all(check.name.startswith(f"{group}.") and check.ok is not False for check in checks)


@pytest.mark.parametrize("what", ["missing", "unexpected", "shape", "option", "output"])
def test_a_broken_folder_is_status_2_and_one_line(copy, what, capsys):
    weights, config = load_file(copy / "weights.safetensors"), json.loads((copy / "config.json").read_text())
    stored = load_file(copy / "io.safetensors")
    if what == "missing":
        del weights["qwen.regression_head.mlp.0.weight"]
    elif what == "unexpected":
        weights["gemma.regression_head.more"] = torch.zeros(2)
    elif what == "shape":
        weights["gemma.regression_head.mlp.0.weight"] = torch.zeros(2, 2)
    elif what == "option":
        del config["gemma"]["max_images"]
    else:
        del stored["gemma.last_hidden"]
    save_file(weights, copy / "weights.safetensors")
    save_file(stored, copy / "io.safetensors")
    (copy / "config.json").write_text(json.dumps(config))
    assert main(["verify", str(copy)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_other_sizes(tmp_path):
    """A folder whose outputs are those of a head and a decoder of other sizes."""
    config = json.loads((GOLDEN / "config.json").read_text())
    gemma, aligner = config["gemma"], config["aligner"]
    gemma |= {"text_hidden": 20, "vision_hidden": 96, "num_heads": 3, "image_seq_len": 9, "max_images": 2}
    gemma |= {"max_seq_len": 30, "depth": 1, "perceive_depth": 3, "patches_per_side": 6}
    aligner |= {"input_dim": 10, "grid": 3, "tokens": 5, "layers": 1, "heads": 4, "ffn": 24, "pos_rows": 9}
    aligner |= {"vae_channels": [8, 16], "vae_groups": 2}
    torch.manual_seed(0)
    weights = random_weights(gemma, aligner)
    head = load_head(gemma, weights, "gemma")
    embeds, hidden = torch.randn(2, 1, 24, 20)
    label = torch.zeros(1, 24, dtype=torch.uint8)
    label[:, 12:21] = 1
    prompt = torch.zeros_like(label)
    prompt[:, 1:10] = 1
    y = head(embeds[:, 1:10], prompt[:, 1:10], hidden[:, 11:20])
    v = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)
    v = v * (1 + weights["gemma.multi_modal_projector.mm_soft_emb_norm.weight"])
    features = torch.randn(1, 5, 10)
    decoder = load_decoder(aligner, weights)
    stored = {
        "gemma.inputs_embeds": embeds,
        "gemma.last_hidden": hidden,
        "gemma.prompt_image_mask": prompt,
        "gemma.label_image_mask": label,
        "gemma.vision_tower_out": torch.randn(1, 36, 96),
        "gemma.out.vit_features": v,
        "aligner.vit_features": features,
        "aligner.out.decoded": decoder.vae.decode(decoder(features).posterior.mean),
    }
    (tmp_path / "config.json").write_text(json.dumps({"gemma": gemma, "aligner": aligner}))
    save_file(weights, tmp_path / "weights.safetensors")
    save_file({name: x.detach().contiguous() for name, x in stored.items()}, tmp_path / "io.safetensors")
    found = {check.name: check.ok for check in verify(tmp_path)}
    assert found["gemma.out.vit_features"]
    assert found["aligner.out.decoded"]


def random_weights(gemma, aligner):
    """Of the sizes of two configurations, under their official names."""
    from unified.checkpoints.autoencoder_kl import AutoencoderKL
    from unified.checkpoints.latent_sketchpad_verify import head_config
    from unified.checkpoints.mineworld_networks import MineWorldVQConfig
    from unified.checkpoints.sketch_decoder import SketchDecoder, SketchDecoderConfig
    from unified.heads.vision_head import VisionHead

    vae = AutoencoderKL(
        MineWorldVQConfig(latent=4, widths=(8, 16), blocks=1, groups=aligner["vae_groups"], attention=True)
    )
    decoder = SketchDecoder(
        SketchDecoderConfig(features=10, width=16, heads=4, layers=1, inner=24, grid=3, position_rows=9), vae
    )
    head = VisionHead(head_config(gemma))
    width, vision = gemma["text_hidden"], gemma["vision_hidden"]
    found = {f"gemma.regression_head.{name}": x for name, x in head.state_dict().items()}
    found |= dict(decoder.state_dict())
    found["gemma.multi_modal_projector.mm_input_projection_weight"] = torch.randn(vision, width)
    found["gemma.multi_modal_projector.mm_soft_emb_norm.weight"] = torch.randn(vision)
    return {name: x.detach().clone().contiguous() for name, x in found.items()}
