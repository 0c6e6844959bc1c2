"""Continuous models against their golden folders: every output agrees, a change is noticed, and a folder that
lacks something is told in one line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unified.checkpoints.__main__ import main

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden is absent")

# Outputs that are changed, keys of config.json and inputs that are taken away.
PACKS = {
    "mar_head": (
        ["schedule.gen.betas", "respacing.ddim50", "train.vb", "cfg.out", "temp.x_half", "train.grad_z"],
        ["respacing", "cfg", "steps_full"],
        ["train.eps", "sample.noise_uncond_half", "sample.z"],
    ),
    "mar": (
        ["loop.64_12.masked", "sample.cfg.latent", "sample.nocfg.weights", "train.grad_mask_token"],
        ["heads", "patch", "num_iter", "seed"],
        ["train.imgs", "sample.orders", "sample.noise0"],
    ),
    "xar": (
        ["rope.sin", "mask_allowed", "train.loss", "em_cfg.velocity.unit3.second", "ode_interval.tokens"],
        ["heads", "cfg", "interval", "units"],
        ["latent", "train.t", "sample.noise", "uncached.prev"],
    ),
    "acdit": (
        ["rope.bases", "mask_allowed", "train.block0_attn", "sample.dpm_cfg.latent", "t_emb"],
        ["ar_len", "cfg", "labels"],
        ["train.t", "sample.noise"],
    ),
    "himar": (
        ["schedule.dense_count", "train.pivot.vb", "sample.both_cfg.latent", "sample.constant.pivots"],
        ["dense_heads", "stage2_rate", "re_cfg"],
        ["train.placeholder_u", "sample.dense.noise"],
    ),
    "harmon": (
        ["gen.mask", "und.logits", "und.grad.mar.z_proj.weight", "sample1.latents", "sample0.revealed"],
        ["llm", "np_seed", "samp"],
        ["gen.t", "sample1.step_noise"],
    ),
    "unipic": (
        ["edit.x_con", "edit.grad.proj_in.0.weight", "sample.output", "und.siglip_projected"],
        ["image_token", "patch_size"],
        ["edit.src_mode", "sample.init_noise"],
    ),
    "orthus": (
        ["forward_text.logits", "mmg_edit.z", "head.two_conditions.out", "generate.latents"],
        ["image", "cfg_text", "steps"],
        ["mmg.eps", "generate.noise0"],
    ),
    "tokenbridge": (
        ["quant.bits8.levels", "train.ids_reordered", "head.after_final", "sample.sampled_cfg.ids"],
        ["bits", "head_heads", "temperature"],
        ["train.latent", "sample.sampled_cfg.u"],
    ),
    "epona": (
        ["geom.yaw_indices", "stt.block0_time", "chain2.grad.time_emb_head", "sample.latents", "dit.loss"],
        ["n_head_dit", "forward_iter", "yaw_bound"],
        ["poses", "chain1.t_traj", "sample_given.noise"],
    ),
}
KEYS = [(pack, key) for pack, (_, keys, _) in PACKS.items() for key in keys]
GIVEN = [(pack, name) for pack, (*_, names) in PACKS.items() for name in names]


@needs_golden
@pytest.mark.parametrize("pack", PACKS)
def test_every_output_agrees(pack, capsys):
    assert main(["verify", str(GOLDEN / pack)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.endswith("an input") for line in lines if line.startswith("skip"))
    assert len(lines) == len(load_file(GOLDEN / pack / "io.safetensors")) + 1


@needs_golden
@pytest.mark.parametrize("pack", PACKS)
def test_changed_outputs_are_noticed(pack, tmp_path, capsys):
    folder, names = copied(pack, tmp_path), PACKS[pack][0]
    tensors = load_file(folder / "io.safetensors")
    tensors |= {name: with_another_first(tensors[name]) for name in names}
    save_file(tensors, folder / "io.safetensors")
    assert main(["verify", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    failed = {line.split()[1].rstrip(":") for line in lines if line.startswith("FAIL")}
    assert failed == set(names)


@needs_golden
@pytest.mark.parametrize(("pack", "key"), KEYS)
def test_a_missing_option_is_one_line(pack, key, tmp_path, capsys):
    folder = copied(pack, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    assert main(["verify", str(folder)]) == 2
    assert one_line(capsys, key)


@needs_golden
@pytest.mark.parametrize(("pack", "name"), GIVEN)
def test_a_missing_input_is_one_line(pack, name, tmp_path, capsys):
    folder = copied(pack, tmp_path)
    tensors = load_file(folder / "io.safetensors")
    del tensors[name]
    save_file(tensors, folder / "io.safetensors")
    assert main(["verify", str(folder)]) == 2
    assert one_line(capsys, name)


@needs_golden
@pytest.mark.parametrize("pack", PACKS)
def test_weights_that_do_not_fit_are_one_line(pack, tmp_path, capsys):
    folder = copied(pack, tmp_path)
    weights = load_file(folder / "weights.safetensors")
    del weights[sorted(weights)[-1]]
    save_file(weights, folder / "weights.safetensors")
    assert main(["verify", str(folder)]) == 2
    assert one_line(capsys, "weights")


def with_another_first(tensor):
    """The tensor with its first element changed: by a hundredth of the largest, or by one."""
    changed = tensor.clone()
    first = changed.view(-1)[0]
    if first.dtype == torch.bool:
        changed.view(-1)[0] = ~first
    else:
        by = max(0.01 * float(tensor.abs().max()), 1e-3) if first.is_floating_point() else 1
        changed.view(-1)[0] = first + by
    return changed


def copied(pack, tmp_path):
    folder = tmp_path / pack
    shutil.copytree(GOLDEN / pack, folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    return folder


def one_line(capsys, words):
    error = capsys.readouterr().err
    return len(error.splitlines()) == 1 and words in error
