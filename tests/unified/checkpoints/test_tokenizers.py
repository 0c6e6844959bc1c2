"""The published tokenizers: agreement with the golden folders, round trips of names, and refusals."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unified.checkpoints import flexvar_tokenizer, var_tokenizer
from unified.checkpoints.folder import read_config, read_state
from unified.checkpoints.formula_weights import formula_weights
from unified.checkpoints.state_dict import load_strict, read_weights, unwrap

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
FOLDERS = {
    "var_tokenizer": var_tokenizer,
    "var_tokenizer_full_structure": var_tokenizer,
    "flexvar_tokenizer": flexvar_tokenizer,
    "flexvar_tokenizer_full_structure": flexvar_tokenizer,
}
STORED = ["var_tokenizer", "flexvar_tokenizer"]
golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden is absent")


@golden
@pytest.mark.parametrize("name", FOLDERS)
def test_every_tensor_of_a_golden_folder_agrees(name):
    module = FOLDERS[name]
    assert module.matches(read_config(GOLDEN / name), GOLDEN / name)
    checks = list(module.verify(GOLDEN / name))
    stored = load_file(GOLDEN / name / "io.safetensors")
    assert sorted(check.name for check in checks) == sorted(stored)
    assert [str(check) for check in checks if check.ok is False] == []
    skipped = [check for check in checks if check.ok is None]
    assert all(check.name.endswith("image") and "an input" in check.detail for check in skipped)


@golden
@pytest.mark.parametrize("name", STORED)
def test_a_tokenizer_is_recognised_by_its_own_module_only(name):
    config = read_config(GOLDEN / name)
    other = flexvar_tokenizer if FOLDERS[name] is var_tokenizer else var_tokenizer
    assert not other.matches(config, GOLDEN / name)
    transformer = GOLDEN / name.replace("tokenizer", "transformer") / "aln_l2"
    assert not FOLDERS[name].matches(read_config(transformer), transformer)


def copy_of(name: str, to: Path) -> Path:
    """A writable copy of a golden folder."""
    to.mkdir()
    for file in (GOLDEN / name).iterdir():
        shutil.copyfile(file, to / file.name)
    return to


@golden
@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("var_tokenizer", "encoder.down.2.block.0.conv1.weight"),
        ("var_tokenizer", "decoder.up.3.block.1.norm2.bias"),
        ("var_tokenizer", "decoder.mid.attn_1.qkv.weight"),
        ("var_tokenizer", "quantize.quant_resi.qresi_ls.2.weight"),
        ("var_tokenizer", "quantize.embedding.weight"),
        ("flexvar_tokenizer", "encoder.conv_blocks.3.downsample.conv.weight"),
        ("flexvar_tokenizer", "decoder.conv_blocks.0.attn.1.v.weight"),
        ("flexvar_tokenizer", "quantize.embedding.weight"),
        ("flexvar_tokenizer", "post_quant_conv.bias"),
    ],
)
def test_one_changed_weight_fails(tmp_path, name, weight):
    folder = copy_of(name, tmp_path / "case")
    state = load_file(folder / "weights.safetensors")
    state[weight].view(-1)[0] += 0.5
    save_file(state, folder / "weights.safetensors")
    assert any(check.ok is False for check in FOLDERS[name].verify(folder))


@golden
@pytest.mark.parametrize("name", STORED)
def test_unknown_tensors_are_listed_and_not_compared(tmp_path, name):
    folder = copy_of(name, tmp_path / "case")
    stored = load_file(folder / "io.safetensors")
    save_file({**stored, "surprise": torch.zeros(1)}, folder / "io.safetensors")
    lines = [str(check) for check in FOLDERS[name].verify(folder)]
    assert "skip surprise: not compared: unknown name" in lines
    assert len(lines) == len(stored) + 1


@golden
@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("spoilt", ["config.json", "weights.safetensors", "io.safetensors"])
@pytest.mark.parametrize("how", ["missing", "truncated"])
def test_unusable_folders_are_refused_in_one_line(tmp_path, name, spoilt, how):
    folder = copy_of(name, tmp_path / "case")
    if how == "missing":
        (folder / spoilt).unlink()
    else:
        (folder / spoilt).write_bytes((folder / spoilt).read_bytes()[:100])
    with pytest.raises(ValueError, match=spoilt) as error:
        list(FOLDERS[name].verify(folder))
    assert "\n" not in str(error.value)


@golden
@pytest.mark.parametrize("name", STORED)
def test_names_survive_a_round_trip(name):
    config = read_config(GOLDEN / name)
    state = read_state(GOLDEN / name, config)
    exported = FOLDERS[name].export(FOLDERS[name].load(config, state))
    assert exported.keys() == state.keys()
    assert all(torch.equal(exported[key], state[key]) for key in state)


@golden
@pytest.mark.parametrize("name", STORED)
def test_loading_follows_wrappers_and_touches_no_seed(name):
    config = read_config(GOLDEN / name)
    state = read_state(GOLDEN / name, config)
    before = torch.random.get_rng_state()
    wrapped = FOLDERS[name].load(config, {"model": {f"module.{key}": value for key, value in state.items()}})
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(wrapped.table.weight, state["quantize.embedding.weight"])
    assert not wrapped.training


def broken(state: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    if how == "truncated":
        return dict(list(state.items())[:20])
    if how == "renamed":
        return {key.replace("encoder", "enc"): value for key, value in state.items()}
    if how == "width":
        return {key: value[:-1] if key == "quant_conv.weight" else value for key, value in state.items()}
    cut = "block.0" if any("block.0" in key for key in state) else "res.0"
    return {
        **state,
        **{
            k.replace(cut, cut[:-1] + "2"): v
            for k, v in state.items()
            if cut in k and "down.0" in k + "down.0"
        },
    }


@golden
@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("truncated", "weights are missing"),
        ("renamed", r"missing .*, \d+ are unexpected \(first: enc\."),
        ("width", r"quant_conv.weight: expected .*, found"),
        ("depth", r"unexpected .*; found \d of (en|de)coder\.\S+, expected \d"),
    ],
)
def test_weights_that_do_not_fit_are_refused_briefly(name, how, reason):
    config = read_config(GOLDEN / name)
    state = broken(read_state(GOLDEN / name, config), how)
    with pytest.raises(ValueError, match=reason) as error:
        FOLDERS[name].load(config, state)
    assert len(str(error.value)) < 300


VAR_SMALL = {"vocab_size": 16, "z_channels": 4, "ch": 32, "v_patch_nums": [1, 2, 4]}
VAR_NETWORK = {"ch_mult": [1, 1, 1], "num_res_blocks": 1}


@pytest.mark.parametrize(
    ("options", "phis"),
    [
        ({"share_quant_resi": 0}, {f"quantize.quant_resi.{j}.weight" for j in range(3)}),
        (
            {"share_quant_resi": 0, "default_qresi_counts": 2},
            {f"quantize.quant_resi.{j}.weight" for j in range(2)},
        ),
        ({"share_quant_resi": 1}, {"quantize.quant_resi.qresi.weight"}),
        ({"share_quant_resi": 3}, {f"quantize.quant_resi.qresi_ls.{j}.weight" for j in range(3)}),
        ({"quant_resi": 0.0}, set()),
        (
            {"quant_resi": -0.3, "using_znorm": True, "quant_conv_ks": 1},
            {f"quantize.quant_resi.qresi_ls.{j}.weight" for j in range(4)},
        ),
    ],
)
@pytest.mark.parametrize("attention", [True, False])
def test_var_options_load_under_their_official_names(options, phis, attention):
    network = {**VAR_NETWORK, "using_sa": attention, "using_mid_sa": attention}
    config = {"vqvae_kwargs": {**VAR_SMALL, **options}, "encoder_decoder_kwargs": network}
    sharing = var_tokenizer.sharing_of(config)
    own = var_tokenizer.ResidualVQTokenizer(var_tokenizer.config_from(config)).eval()
    state = var_tokenizer.to_official(own.state_dict(), sharing)
    assert {name for name in state if "quant_resi" in name and name.endswith("weight")} == phis
    assert any("attn" in name for name in state) == attention
    loaded = var_tokenizer.load(config, state)
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    assert all(torch.equal(a, b) for a, b in zip(own.encode(images), loaded.encode(images), strict=True))


def test_statistics_of_another_schedule_are_not_taken_over():
    config = {"vqvae_kwargs": VAR_SMALL, "encoder_decoder_kwargs": VAR_NETWORK}
    own = var_tokenizer.ResidualVQTokenizer(var_tokenizer.config_from(config))
    state = var_tokenizer.export(own)
    state[var_tokenizer.HITS] = torch.ones(7, 16)
    assert torch.equal(var_tokenizer.load(config, state).hits, torch.zeros(3, 16))


@pytest.mark.parametrize(
    "options",
    [
        {"codebook_show_usage": False},
        {"codebook_l2_norm": False},
        {"encoder_ch_mult": [1, 2, 1], "decoder_ch_mult": [1, 1, 2]},
    ],
)
def test_flexvar_options_load_under_their_official_names(options):
    small = {"codebook_size": 16, "codebook_embed_dim": 4, "z_channels": 8}
    halves = {"encoder_ch_mult": [1, 1, 1], "decoder_ch_mult": [1, 1, 1]}
    config = {
        "model_args": small | halves | options,
        "encoder_decoder_kwargs": {"ch": 32, "num_res_blocks": 1},
    }
    own = flexvar_tokenizer.VQTokenizer(flexvar_tokenizer.config_from(config)).eval()
    state = flexvar_tokenizer.export(own)
    assert ("quantize.codebook_used" in state) == options.get("codebook_show_usage", True)
    loaded = flexvar_tokenizer.load(config, state)
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(own.encode(images)[0], loaded.encode(images)[0])


@pytest.mark.parametrize(
    ("module", "config", "reason"),
    [
        (var_tokenizer, {"vqvae_kwargs": {"vocab": 3}}, "unknown option 'vocab'"),
        (var_tokenizer, {"vqvae_kwargs": {}, "encoder_decoder_kwargs": {"double_z": True}}, "double_z"),
        (var_tokenizer, {"vqvae_kwargs": {}, "norm_num_groups": 16}, "32 groups"),
        (var_tokenizer, {"vqvae_kwargs": {"ch": 48}}, "multiple of 32"),
        (flexvar_tokenizer, {"model_args": {"codebook": 3}}, "unknown option 'codebook'"),
        (flexvar_tokenizer, {"model_args": {"decoder_ch_mult": [1, 1]}}, "stride 16 and decoder stride 2"),
        (flexvar_tokenizer, {"model_args": []}, "must be an object"),
    ],
)
def test_options_that_cannot_be_built_are_refused(module, config, reason):
    with pytest.raises(ValueError, match=reason):
        module.load(config, {"x": torch.zeros(1)})


@golden
@pytest.mark.parametrize(
    ("manifest", "key", "module", "config"),
    [
        ("var", "vqvae_ch160_v4096_z32", var_tokenizer, {"vqvae_kwargs": {"ch": 160}}),
        (
            "flexvar",
            "flexvae_vq16_v8912_c32",
            flexvar_tokenizer,
            {"model_args": {"codebook_size": 8912, "codebook_embed_dim": 32}},
        ),
    ],
)
def test_the_released_sizes_have_exactly_the_official_names_and_shapes(manifest, key, module, config):
    file = GOLDEN / f"{manifest}_transformer" / "official_state_dict_manifest.json"
    official = json.loads(file.read_text())[key]
    entries = official.get("state_dict") or official.get("keys") or official.get("entries")
    with torch.device("meta"):
        tokenizer = (getattr(module, "ResidualVQTokenizer", None) or module.VQTokenizer)(
            module.config_from(config)
        )
    assert {name: list(value.shape) for name, value in module.export(tokenizer).items()} == shapes_of(entries)


def shapes_of(entries: object) -> dict[str, list[int]]:
    pairs = entries.items() if isinstance(entries, dict) else ((entry[0], entry[1:]) for entry in entries)
    return {name: shape_in(value) for name, value in pairs}


def shape_in(value: object) -> list[int]:
    if isinstance(value, dict):
        return value["shape"]
    return next((item for item in value if isinstance(item, list)), value)


def test_formula_weights_follow_the_rules():
    manifest = {
        "a.norm.weight": [4],
        "b.bias": [4],
        "c.embedding.weight": [2, 2],
        "d.codebook_used": [3],
        "e.weight": [2, 9],
    }
    weights = formula_weights(manifest)
    h = 12345  # element 0 of name 0, by hand
    h ^= h >> 16
    h = h * 0x45D9F3B % 2**32
    h ^= h >> 16
    assert float(weights["a.norm.weight"][0]) == pytest.approx(1 + 0.4 * (h / 2**32 - 0.5), abs=1e-7)
    assert weights["b.bias"].abs().max() <= 0.1
    assert weights["c.embedding.weight"].shape == (2, 2)
    assert not weights["d.codebook_used"].any()
    assert weights["e.weight"].abs().max() <= 0.6 * 12**0.5 / 3


def test_load_strict_renames_ignores_and_changes_nothing_on_failure():
    module = torch.nn.Linear(2, 3)
    before = module.weight.detach().clone()
    official = {"linear.w": torch.ones(3, 2), "linear.b": torch.ones(3), "step": torch.zeros(1)}
    rename = {"linear.w": "weight", "linear.b": "bias"}.get
    with pytest.raises(ValueError, match="1 are unexpected"):
        load_strict(module, official, lambda name: rename(name, name))
    with pytest.raises(ValueError, match=r"linear.w: expected \(3, 2\), found \(2, 2\)"):
        load_strict(
            module, {**official, "linear.w": torch.ones(2, 2)}, lambda name: rename(name, name), ["step"]
        )
    assert torch.equal(module.weight, before)
    load_strict(module, official, lambda name: rename(name, name), ["step"])
    assert module.weight.eq(1).all()


def test_weights_are_read_from_torch_and_safetensors_files(tmp_path):
    state = {"a": torch.arange(3.0)}
    save_file(state, tmp_path / "w.safetensors")
    torch.save({"trainer": {"vae_local": state}, "epoch": 3}, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        assert torch.equal(read_weights(tmp_path / name)["a"], state["a"])
    (tmp_path / "cut.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:60])
    (tmp_path / "w.txt").write_text("no")
    for name, reason in {"cut.pth": "torch file", "none.pt": "no such file", "w.txt": "end in"}.items():
        with pytest.raises(ValueError, match=reason) as error:
            read_weights(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("loaded", [3, {}, {"a": 1}, {"model": {"a": "text"}}])
def test_what_is_no_state_dict_is_refused(loaded):
    with pytest.raises(ValueError, match="expected a state dict"):
        unwrap(loaded)
