"""The published LlamaGen tokenizers and their training losses: against the published code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from unified.tokenizers.vq import VQTokenizer

from unified.checkpoints import flexvar_tokenizer, llamagen, llamagen_tokenizer_verify
from unified.checkpoints.llamagen_losses import adaptive_weight, record_ids, usage
from unified.checkpoints.llamagen_tokenizer import RELEASED, config_from, export, load, released
from unified.checkpoints.nar import NARTransformer
from unified.checkpoints.nar_generation import Prompted
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session

PACK = Path(__file__).parents[4] / "shared" / "golden" / "llamagen_tokenizer"
needs_golden = pytest.mark.skipif(
    not PACK.is_dir(), reason="the reference vectors (../shared/golden) are absent"
)
OPTIONS = {"codebook_size": 20, "codebook_embed_dim": 4, "z_channels": 6, "ch": 32, "ch_mult": [1, 1],
           "num_res_blocks": 1}  # fmt: skip


@needs_golden
def test_every_published_output_is_recomputed() -> None:
    assert not flexvar_tokenizer.matches(json.loads((PACK / "config.json").read_text()), PACK)
    checks = list(llamagen_tokenizer_verify.verify(PACK))
    assert [str(check) for check in checks if check.ok is False] == []
    assert sorted(check.name for check in checks) == sorted(load_file(PACK / "io.safetensors"))
    left_out = {check.name: check.detail for check in checks if check.ok is None}
    assert set(left_out.values()) == {"not compared: an input"}
    assert set(left_out) == set(llamagen_tokenizer_verify.INPUTS)


@needs_golden
@pytest.mark.parametrize(
    ("weight", "failing"),
    [
        ("encoder.conv_blocks.3.attn.0.proj_out.weight", "latent_z"),
        ("decoder.conv_blocks.3.res.1.norm2.bias", "dec_from_ids"),
        ("quantize.embedding.weight", "code_entry"),
        ("discriminator.main.6.running_mean", "patchgan.out_eval_after_one_train_step"),
    ],
)
def test_one_changed_weight_fails(weight: str, failing: str, tmp_path: Path) -> None:
    for name in ("config.json", "io.safetensors"):
        (tmp_path / name).write_bytes((PACK / name).read_bytes())
    state = load_file(PACK / "weights.safetensors")
    changed = state[weight] if "embedding" not in weight else state[weight][int(_first_id())]
    changed.view(-1)[0] += 0.5
    save_file(state, tmp_path / "weights.safetensors")
    checks = llamagen_tokenizer_verify.verify(tmp_path)
    assert failing in {check.name for check in checks if check.ok is False}


def _first_id() -> torch.Tensor:
    return load_file(PACK / "io.safetensors")["ids"][0, 0]


@needs_golden
@pytest.mark.parametrize("name", RELEASED)
def test_released_sizes_have_the_published_parameters(name: str) -> None:
    manifest = json.loads((PACK / "official_state_dict_manifest.json").read_text())[name]
    with torch.device("meta"):
        ours = export(VQTokenizer(released(name)))
    shapes = {name: list(value.shape) for name, value in ours.items()}
    shapes["quantize.codebook_used"] = [65536]
    assert shapes == manifest


def test_names_survive_a_round_trip_beside_what_training_adds() -> None:
    config = config_from(OPTIONS)
    state = export(VQTokenizer(config))
    beside = {"quantize.codebook_used": torch.zeros(65536), "discriminator.main.0.weight": torch.zeros(1)}
    again = export(load(config, {"model": {**state, **beside}, "steps": 3}))
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)
    assert "decoder.conv_blocks.0.attn.1.q.weight" in state


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"codebook_size": 21}, "weights do not fit"),
        ({"decoder_ch_mult": [1, 2]}, "weights do not fit"),
        ({"codes": 3}, "unknown option 'codes'"),
        ({"ch": 33}, "every width must be a multiple of 32"),
    ],
)
def test_what_does_not_fit_is_refused_shortly(more: dict[str, object], said: str) -> None:
    state = export(VQTokenizer(config_from(OPTIONS)))
    with pytest.raises(ValueError, match=said) as refusal:
        load(config_from({**OPTIONS, **more}), state)
    assert "\n" not in str(refusal.value)


@torch.no_grad()
def test_what_a_transformer_writes_becomes_an_image() -> None:
    torch.manual_seed(0)
    tokenizer = VQTokenizer(config_from(OPTIONS)).eval()
    sizes = {"dim": 24, "n_layer": 1, "n_head": 3, "multiple_of": 8, "vocab_size": 20, "block_size": 9}
    model = NARTransformer(llamagen.config_from(sizes)).eval()
    told = Prompted.by_class(model)
    session = Session(told)
    session.feed(told.prompts[2])
    codes = session.draw([3], order=model.order, sampler=Sampler(temperature=0)).read()
    image = tokenizer.decode(codes, (3, 3))
    assert image.shape == (1, 3, 6, 6)
    table = tokenizer.codebook()
    assert torch.allclose(table.norm(dim=-1), torch.ones(20))
    latent = table[codes].mT.unflatten(2, (3, 3))
    assert torch.equal(tokenizer.quantise(latent).ids, codes)


def test_the_adversarial_loss_is_brought_to_the_size_of_the_other() -> None:
    last = torch.tensor([3.0, 4.0], requires_grad=True)
    weight = adaptive_weight(last.square().sum() / 2, last.sum(), last)
    assert weight == pytest.approx(5 / (2**0.5 + 1e-4))
    assert not weight.requires_grad
    assert adaptive_weight(1e9 * last.sum(), 0 * last.sum(), last) == 1e4


def test_usage_counts_recent_ids() -> None:
    recent = record_ids(torch.zeros(4), torch.tensor([[5, 6]]))
    assert recent.tolist() == [0, 0, 5, 6]
    assert usage(recent, 10) == 0.3
    assert record_ids(recent, torch.tensor([7, 7, 7])).tolist() == [6, 7, 7, 7]
