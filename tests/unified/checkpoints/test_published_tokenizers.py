"""Published tokenizers behind the interface of all: they conform, give the codes of their packs, and what
cannot be one is refused."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from unified.eval.tokenizer_conform import tokenizer_checks
from unified.tokenizers.reconstruction import reconstruct
from unified.tokenizers.vq import VQTokenizer

from unified.apps.cli import main
from unified.checkpoints import autoencoder_kl, llamagen_tokenizer
from unified.checkpoints.fvq.network import Bridge, BridgeConfig, ModulatedBridge
from unified.checkpoints.selftok.network import Selftok, SelftokConfig
from unified.pretrained import load_tokenizer

sys.path.insert(0, str(Path(__file__).parents[2]))
from golden_folders import GOLDEN, needs


@needs("gigatok")
def test_gigatok_gives_the_codes_of_its_pack_and_conforms():
    tokenizer, stored = load_tokenizer(GOLDEN / "gigatok"), load_file(GOLDEN / "gigatok" / "io.safetensors")
    found = reconstruct(tokenizer, stored["image"])
    assert torch.equal(found.ids[0], stored["ids"].flatten(1))
    assert torch.allclose(found.images, stored["dec_from_ids"].clamp(-1, 1), atol=1e-4)
    assert [str(check) for check in tokenizer_checks(tokenizer) if not check.ok] == []


@needs("larp")
def test_larp_conforms():
    tokenizer = load_tokenizer(GOLDEN / "larp")
    assert tokenizer.frames > 1
    assert [str(check) for check in tokenizer_checks(tokenizer) if not check.ok] == []


@needs("hita")
def test_hita_needs_its_teacher():
    tokenizer = load_tokenizer(GOLDEN / "hita")
    images = torch.zeros(1, 3, tokenizer.side, tokenizer.side)
    with pytest.raises(ValueError, match="set its `teacher`"):
        tokenizer.encode(images)
    tokenizer.teacher = lambda images: torch.zeros(len(images), tokenizer.config.features, 2, 2)
    assert tokenizer.encode(images)[0].shape == (1, tokenizer.line)


@needs("llamagen_tokenizer", "var_tokenizer", "flexvar_tokenizer", "infinity_bsq")
@pytest.mark.parametrize("pack", ["llamagen_tokenizer", "var_tokenizer", "flexvar_tokenizer", "infinity_bsq"])
def test_others_reconstruct(pack):
    tokenizer = load_tokenizer(GOLDEN / pack)
    side = 4 * tokenizer.stride
    assert reconstruct(tokenizer, torch.zeros(1, 3, side, side)).images.shape == (1, 3, side, side)


@needs("fvq", "selftok")
@pytest.mark.parametrize(
    ("pack", "reason"), [("fvq", "is a codebook, without networks"), ("selftok", "put its folder")]
)
def test_what_reads_no_images_is_refused(pack, reason):
    with pytest.raises(ValueError, match=reason):
        load_tokenizer(GOLDEN / pack)


# Folders that are made here, since what is published is large -----------------------------------------------


def fvq_folder(folder, modulated):
    """LlamaGen's networks with a bridge, under the published names. Returns the generated codebook."""
    torch.manual_seed(3)
    options = {"codebook_size": 16, "codebook_embed_dim": 4, "z_channels": 32, "ch": 32, "ch_mult": [1, 1],
               "num_res_blocks": 1, "codebook_l2_norm": True}  # fmt: skip
    state = llamagen_tokenizer.export(VQTokenizer(llamagen_tokenizer.config_from(options)))
    sizes = {"head_hidden_size": 4, "num_heads": 2, "patch_size": 2, "depth": 1, "mlp_ratio": 2.0}
    config = BridgeConfig(codes=16, dim=4, patch=2, head_width=4, heads=2, blocks=1)
    bridge = (ModulatedBridge if modulated else Bridge)(config)
    for parameter in bridge.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    raw = torch.randn(16, 4)
    state["quantize.embedding.weight"] = raw
    state |= {f"quantize.qbridge.{name}": value for name, value in bridge.state_dict().items()}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**options, **sizes}))
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "weights.safetensors")
    return bridge(raw).detach()


@pytest.mark.parametrize("modulated", [False, True])
def test_a_published_fvq_has_the_codebook_that_its_bridge_generates(tmp_path, modulated):
    codebook = fvq_folder(tmp_path / "fvq", modulated)
    tokenizer = load_tokenizer(tmp_path / "fvq")
    assert torch.allclose(tokenizer.codebook(), codebook, atol=1e-6)
    assert not tokenizer.config.normalised
    assert [str(check) for check in tokenizer_checks(tokenizer) if not check.ok] == []


def test_an_fvq_whose_weights_lack_a_layer_is_refused(tmp_path):
    fvq_folder(tmp_path / "fvq", False)
    state = load_file(tmp_path / "fvq" / "weights.safetensors")
    del state["quantize.qbridge.final_layer.linear.weight"]
    save_file(state, tmp_path / "fvq" / "weights.safetensors")
    with pytest.raises(ValueError, match="final_layer"):
        load_tokenizer(tmp_path / "fvq")


def selftok_folder(folder, channels=4, quant_conv=True):
    """Small networks under the published names, on the latents of a small autoencoder as diffusers saves
    it."""
    torch.manual_seed(4)
    sizes = SelftokConfig(
        latent=(4, 8), patch=2, codes=8, codebook=(16, 4), streams=((16, 2), (16, 2)), context=16,
        decoder=(32, 2, 8), depths=(1, 1),
    )  # fmt: skip
    network = Selftok(sizes)
    options = {"case": "selftok", "enc": {"num_heads": 2, "query_heads": 2}, "dec_head_width": 16,
               "stages": "500,1000", "k_per_stage": "6,2", "steps": 2}  # fmt: skip
    inner = {"latent_channels": channels, "block_out_channels": [8, 8], "layers_per_block": 1,
             "norm_num_groups": 4, "scaling_factor": 1.5, "shift_factor": 0.1,
             "use_quant_conv": quant_conv, "use_post_quant_conv": quant_conv}  # fmt: skip
    vae = autoencoder_kl.AutoencoderKL(autoencoder_kl.config_from(inner))
    (folder / "vae").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(options))
    (folder / "vae" / "config.json").write_text(json.dumps(inner))
    parts = {name: value.contiguous() for name, value in vae.state_dict().items()}
    kept = {name: value for name, value in parts.items() if quant_conv or "quant_conv" not in name}
    save_file(kept, folder / "vae" / autoencoder_kl.WEIGHTS)
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()},
        folder / "weights.safetensors",
    )
    return network, vae


@pytest.mark.parametrize("quant_conv", [True, False])
def test_a_published_selftok_reads_its_autoencoders_latents(tmp_path, quant_conv):
    network, vae = selftok_folder(tmp_path / "selftok", quant_conv=quant_conv)
    tokenizer = load_tokenizer(tmp_path / "selftok")
    assert (tokenizer.side, tokenizer.line, tokenizer.codes) == (16, 8, 16)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    if quant_conv:
        with torch.no_grad():
            latent = 1.5 * (vae.eval().encode(images).mean - 0.1)
            assert torch.equal(tokenizer.encode(images)[0], network.eval().encoder.encode(latent).flip(1))
    assert [str(check) for check in tokenizer_checks(tokenizer) if not check.ok] == []


def test_a_selftok_of_other_latents_is_refused(tmp_path):
    selftok_folder(tmp_path / "selftok", channels=6)
    with pytest.raises(ValueError, match="latents of 4 channels, the autoencoder's have 6"):
        load_tokenizer(tmp_path / "selftok")


@pytest.mark.slow
def test_both_stand_in_the_table_of_all(tmp_path, capsys):
    fvq_folder(tmp_path / "fvq", False)
    selftok_folder(tmp_path / "selftok")
    folders = [str(tmp_path / name) for name in ("fvq", "selftok")]
    words = ["eval", "tokenizer", *folders, "--count", "2", "--size", "16"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    found = report["suites"]["tokenizer"]["numbers"]["tokenizers"]
    assert found["fvq"]["scenes"]["codes"] == 64
    assert found["selftok"]["scenes"]["codes"] == 8
    assert found["selftok"]["scenes"]["bits"] == 8 * 4


def test_folders_without_a_tokenizer_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        load_tokenizer(tmp_path / "none")
    with pytest.raises(ValueError, match=r"neither visual_config.json nor config.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no published tokenizer"):
        load_tokenizer(tmp_path)
