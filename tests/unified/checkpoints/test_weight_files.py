"""Weight files as trainers and downloads leave them: wrappers, prefixes, types, and what is no weights."""

import argparse
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from unified.tokenizers.vq import VQTokenizer

from unified.checkpoints import flexvar, flexvar_tokenizer, var, var_tokenizer
from unified.checkpoints.published import config_from, initialise
from unified.checkpoints.state_dict import read_safetensors, read_weights, unwrap

SIDES = [1, 2, 4]
OPTIONS = {"num_classes": 4, "depth": 1, "embed_dim": 32, "num_heads": 1, "patch_nums": SIDES}
KWARGS = {"vocab_size": 16, "z_channels": 4, "ch": 32, "share_quant_resi": 4, "v_patch_nums": SIDES}
VQVAE = {"vqvae_kwargs": KWARGS}


@pytest.fixture(scope="module")
def transformer():
    model = var.VAR(config_from(OPTIONS, codes=16, code_width=4))
    initialise(model, generator=torch.Generator().manual_seed(1))
    return model.state_dict()


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return var_tokenizer.export(var_tokenizer.ResidualVQTokenizer(var_tokenizer.config_from(VQVAE)))


def prefixed(prefix, weights):
    return {prefix + name: value for name, value in weights.items()}


TRANSFORMERS = {
    "training checkpoint": lambda w, t: {
        "epoch": 3,
        "trainer": {
            "var_wo_ddp": w,
            "vae_local": t,
            "var_opt": {"state": {}},
            "config": {"patch_nums": (1, 2)},
        },
        "args": {"depth": 1},
    },
    "without its tokenizer": lambda w, t: {"trainer": {"var_wo_ddp": w}},
    "of Infinity's trainer": lambda w, t: {"trainer": {"gpt_fsdp": w, "vae_local": t}},
    "DeepSpeed": lambda w, t: {"module": prefixed("module.", w), "optimizer": {"state": {}}, "lr": 0.1},
    "model": lambda w, t: {"model": w, "optimizer": {}, "args": argparse.Namespace(depth=1)},
    "state_dict": lambda w, t: {"state_dict": prefixed("module._orig_mod.", w)},
    "compiled": lambda w, t: prefixed("_orig_mod.module.", w),
    "average first": lambda w, t: {"model": {n: v + 1 for n, v in w.items()}, "model_ema": w},
    "average of another form": lambda w, t: {"ema": {"decay": 0.9, "shadow": []}, "model": w},
    "wrapped average": lambda w, t: {"ema": {"module": w}},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", TRANSFORMERS)
def test_transformers_out_of_every_wrapper(tmp_path, transformer, tokenizer, form, dtype):
    weights = {name: value.to(dtype) for name, value in transformer.items()}
    torch.save(TRANSFORMERS[form](weights, tokenizer), tmp_path / "CKPT.PTH")
    loaded = var.load(OPTIONS, read_weights(tmp_path / "CKPT.PTH")).state_dict()
    for name, value in weights.items():
        if name in loaded and "mask" not in name:
            assert torch.equal(loaded[name], value.float()), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ["vae_local", "vae_wo_ddp", "vae_ema"])
def test_tokenizers_out_of_every_wrapper(tmp_path, transformer, tokenizer, name, dtype):
    weights = {key: value.to(dtype) for key, value in tokenizer.items()}
    torch.save({"trainer": {name: weights, "var_wo_ddp": transformer}, "iter": 1}, tmp_path / "a.ckpt")
    loaded = var_tokenizer.load(VQVAE, read_weights(tmp_path / "a.ckpt"))
    assert {value.dtype for value in loaded.state_dict().values() if value.is_floating_point()} == {
        torch.float32
    }
    assert loaded.codebook().isfinite().all()


def test_flexvar_and_its_tokenizer_take_the_same_wrappers(transformer):
    config = config_from(OPTIONS, codes=16, code_width=4)
    model = flexvar.FlexVAR(config)
    initialise(model, generator=torch.Generator().manual_seed(0))
    weights = model.state_dict()
    loaded = flexvar.load(OPTIONS, {"trainer": {"var_wo_ddp": weights, "vae_local": {"x": torch.zeros(1)}}})
    assert loaded.state_dict().keys() == weights.keys()
    options = {"codebook_size": 16, "codebook_embed_dim": 4}
    own = VQTokenizer(flexvar_tokenizer.config_from({"model_args": options}))
    official = flexvar_tokenizer.export(own)
    flexvar_tokenizer.load({"model_args": options}, {"model": prefixed("module.", official), "optimizer": {}})


def test_several_models_need_a_part(transformer, tokenizer):
    both = {"var_wo_ddp": transformer, "vae_local": tokenizer}
    with pytest.raises(ValueError, match=r"several models .var_wo_ddp, vae_local.: say which part"):
        unwrap(both)
    assert unwrap(both, "tokenizer").keys() == tokenizer.keys()
    with pytest.raises(ValueError, match="expected the weights of a tokenizer, found var_wo_ddp"):
        unwrap({"var_wo_ddp": transformer}, "tokenizer")


def test_weights_that_are_not_finite_are_named(transformer):
    name = next(iter(transformer))
    spoilt = {**transformer, name: torch.full_like(transformer[name], float("nan"))}
    with pytest.raises(ValueError, match=f"{name}: .* weights are NaN or infinite"):
        var.load(OPTIONS, spoilt)


class Runs:
    def __reduce__(self):
        return os.system, (f"touch '{os.environ['RAN']}'",)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n", "Git LFS pointer"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ("a.bin", b"\xef\xbb\xbf\n <!DOCTYPE html><title>404</title>", "a web page, not the file"),
        ("a.SafeTensors", b"<html></html>", "a web page, not the file"),
        ("a.pt", b"", "the file is empty"),
        ("a.safetensors", b"", "the file is empty"),
        ("a.safetensors", b"\x10\0\0\0\0\0\0\0{", "not a readable safetensors file"),
        ("a.pth", b"PK\x03\x04" + b"\0" * 50, "not a readable torch file"),
        ("a.pth", b"nothing of the kind", "not a readable torch file"),
        ("a.gguf", b"GGUF", "weights end in"),
    ],
)
def test_what_is_no_weights_is_named(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=reason) as error:
        read_weights(tmp_path / name)
    assert "\n" not in str(error.value)
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_pickles_is_never_run(tmp_path, monkeypatch):
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    torch.save({"model": Runs()}, tmp_path / "a.pth")
    (tmp_path / "b.bin").write_bytes(pickle.dumps({"model": Runs()}))
    (tmp_path / "c.bin").write_bytes(pickle.dumps({"model": Runs()}, protocol=2))
    for name in ("a.pth", "b.bin", "c.bin"):
        with pytest.raises(ValueError, match="not a readable torch file") as error:
            read_weights(tmp_path / name)
        assert "weights_only" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_a_state_dict_in_safetensors_with_capitals(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "W.SAFETENSORS")
    assert read_weights(tmp_path / "W.SAFETENSORS")["a"].eq(1).all()
    with pytest.raises(ValueError, match="no such file"):
        read_safetensors(tmp_path / "none.safetensors")
