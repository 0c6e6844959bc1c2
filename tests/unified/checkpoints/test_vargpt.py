"""VARGPT-v1.1: against the published code's outputs, and against its two transformers run by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unified.checkpoints import vargpt_verify
from unified.checkpoints.folder import is_vargpt
from unified.checkpoints.vargpt import VARGPT, Sketch
from unified.checkpoints.vargpt_config import read, written
from unified.checkpoints.vargpt_published import (
    chunk_of,
    image_log_probs,
    load_folder,
    published_name,
    renamed,
    save_folder,
)
from unified.orders.shapes import area

sys.path.insert(0, str(Path(__file__).parents[2]))
import tiny_vargpt as tiny

FOLDER = Path(__file__).parents[4] / "shared" / "golden" / "vargpt_v11"
needs_golden = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the reference vectors (../shared/golden) are absent"
)


# Against the published code -------------------------------------------------------------------------------


@needs_golden
def test_every_published_output_is_recomputed() -> None:
    checks = list(vargpt_verify.verify(FOLDER))
    assert [str(check) for check in checks if check.ok is False] == []
    assert sorted(check.name for check in checks) == sorted(load_file(FOLDER / "io.safetensors"))
    left_out = {check.name for check in checks if check.ok is None}
    assert left_out == set(vargpt_verify.INPUTS)


def copied(to: Path, keep: str, change: Callable[[dict[str, Tensor]], None]) -> Path:
    """The golden folder with other weights; of what it stores, names that begin with `keep`."""
    (to / "config.json").write_text((FOLDER / "config.json").read_text())
    stored = load_file(FOLDER / "io.safetensors")
    save_file({k: v for k, v in stored.items() if k.startswith(keep)}, to / "io.safetensors")
    weights = load_file(FOLDER / "weights.safetensors")
    change(weights)
    save_file(weights, to / "weights.safetensors")
    return to


@needs_golden
@pytest.mark.parametrize(
    ("name", "part", "failed"),
    [
        ("visual.merger.mlp.2.bias", "und.", "und.image_embeds"),
        ("lm_head.weight", "und.", "und.logits"),
        ("model.layers.1.self_attn.q_proj.bias", "gen.", "gen.llm_hidden_head"),
        ("image_gen_projector.mlp.0.bias", "gen.", "gen.image_gen_projector_output_head"),
        ("image_gen_projector_out.mlp.2.bias", "gen.", "gen.cross_attention_kv"),
        ("sos_embedding.weight", "gen.", "gen.cond_BD"),
        ("vargpt_gen.block_chunks.1.module.0.ca.proj.bias", "gen.", "gen.image_logits"),
        ("vargpt_gen.cfg_uncond", "inf.", "inf.greedy_cfg.logits_after_cfg_tau"),
        ("vae_local.decoder.conv_out.conv.bias", "inf.", "inf.greedy_cfg.image_uint8_bgr"),
    ],
)
def test_one_changed_weight_fails(name: str, part: str, failed: str, tmp_path: Path) -> None:
    def change(weights: dict[str, Tensor]) -> None:
        weights[name].flatten()[::3] += 0.3  # a norm would take out what all channels share

    found = vargpt_verify.verify(copied(tmp_path, part, change))
    assert failed in {check.name for check in found if check.ok is False}


@needs_golden
def test_the_norms_of_the_projectors_are_not_applied(tmp_path: Path) -> None:
    def change(weights: dict[str, Tensor]) -> None:
        weights["image_gen_projector.ln_q.weight"] += 1

    assert not [
        check for check in vargpt_verify.verify(copied(tmp_path, "gen.", change)) if check.ok is False
    ]


@needs_golden
def test_the_command_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    from unified.checkpoints.__main__ import main

    assert main(["verify", str(FOLDER)]) == 0
    assert " 0 differ" in capsys.readouterr().out


# Folders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [False, True], ids=["tiny", "other sizes"])
def test_a_saved_folder_is_the_same_model(other: bool, tmp_path: Path) -> None:
    made = tiny.model(**tiny.wider(tiny.config())) if other else tiny.model()
    save_folder(tmp_path, made)
    again = load_folder(tmp_path)
    assert again.sizes == made.sizes
    for name, value in made.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    for name, value in made.tokenizer.state_dict().items():
        assert torch.equal(again.tokenizer.state_dict()[name], value), name


@needs_golden
def test_names_are_the_published_ones() -> None:
    published = load_file(FOLDER / "weights.safetensors")
    config = json.loads((FOLDER / "config.json").read_text())
    own = {k: v for k, v in published.items() if not k.startswith("vae_local.")}
    found = {published_name(name) for name in renamed(own, chunk_of(config))}
    expected = {
        name.replace("block_chunks.0.module.0", "blocks.0").replace("block_chunks.1.module.0", "blocks.1")
        for name in own
        if not name.endswith("zero_k_bias")
    }
    assert found == expected


def test_shards_are_read(tmp_path: Path) -> None:
    made = tiny.model()
    save_folder(tmp_path, made)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names, places = sorted(weights), {}
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: weights[name] for name in part}, tmp_path / f"part-{number}.safetensors")
        places |= {name: f"part-{number}.safetensors" for name in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert torch.equal(load_folder(tmp_path).sos_embedding.weight, made.sos_embedding.weight)
    (tmp_path / "part-1.safetensors").unlink()
    with pytest.raises(ValueError, match=r"part-1\.safetensors") as refusal:
        load_folder(tmp_path)
    assert "\n" not in str(refusal.value)


def test_the_released_configuration_needs_no_sizes_of_the_decoder() -> None:
    """The released config.json is Qwen2-VL's, flat, with three more tokens."""
    ours = written(tiny.config())
    flat = {**ours["llm"], **ours["token_ids"], "special_tokens": ours["special_tokens"]}
    config = read({**flat, "architectures": ["VARGPTQwen2VLForConditionalGeneration"]})
    assert (config.decoder.width, config.decoder.depth, config.tokenizer.bits) == (2048, 32, 32)
    assert config.resolution == "0.25M"
    assert config.language == tiny.config().language
    assert [config.padded(area(config.shapes()))] == [2560]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["llm"].pop("hidden_size"), "hidden_size"),
        (lambda c: c["special_tokens"].pop("image_gen_pad_token_id"), "image_gen_pad_token_id"),
        (lambda c: c["vae"].pop("patch_size"), "patch_size"),
        (lambda c: c["visual_decoder"].update(text_channels=256), "must be 128, got 256"),
        (lambda c: c["vae"].update(codebook_dim=5), "weights do not fit"),
        (lambda c: c.update(pn="2M"), "unknown resolution"),
        (lambda c: c["llm"].update(num_hidden_layers=3), "missing"),
    ],
)
def test_what_does_not_fit_is_one_line(change: Callable[[dict], object], said: str, tmp_path: Path) -> None:
    save_folder(tmp_path, tiny.model())
    config = json.loads((tmp_path / "config.json").read_text())
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=said) as refusal:
        load_folder(tmp_path)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300


def test_other_folders_are_not_taken_for_it() -> None:
    assert is_vargpt(written(tiny.config()))
    assert not is_vargpt({"model_type": "qwen2_vl", "special_tokens": {}})


# Likelihood -------------------------------------------------------------------------------------------------


def drawing(model: VARGPT, seed: int = 0) -> tuple[Tensor, Sketch, Tensor]:
    """Ids [2, T] of two conversations that draw, what they draw, and its bits."""
    ids, shapes = model.sizes.ids, model.sizes.shapes()
    rng = torch.Generator().manual_seed(seed)
    bits = torch.randint(2, (2, area(shapes), model.decoder.grid.token_bits), generator=rng)
    rows = [
        [
            *range(50, 50 + count),
            ids.start,
            *[ids.pad] * model.sizes.padded(area(shapes)),
            ids.end,
            *[60] * rest,
        ]
        for count, rest in ((6, 1), (4, 3))
    ]
    sketch = Sketch(vectors=model.decoder.grid.transformer_inputs(bits, shapes), shapes=shapes)
    return torch.tensor(rows), sketch, bits


@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch() -> None:
    model = tiny.model()
    ids, sketch, bits = drawing(model)
    both = model(ids, sketch)
    assert both.drawn is not None
    one = model(ids[1:, :-2], Sketch(vectors=sketch.vectors[1:], shapes=sketch.shapes))
    assert one.drawn is not None
    torch.testing.assert_close(both.drawn.bits[1:], one.drawn.bits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(both.text[1:, :-2], one.text, atol=1e-4, rtol=1e-4)
    assert image_log_probs(both.drawn.bits, bits).shape == (2,)


@torch.no_grad()
def test_a_later_map_changes_no_earlier_logits() -> None:
    """Though the language model sees the slots one after another."""
    model = tiny.model()
    ids, sketch, bits = drawing(model)
    shapes = sketch.shapes
    changed = bits.clone()
    start = area(shapes[:3])
    changed[:, start : start + 2] ^= 1
    other = Sketch(vectors=model.decoder.grid.transformer_inputs(changed, shapes), shapes=shapes)
    before, after = model(ids, sketch).drawn.bits, model(ids, other).drawn.bits
    fed = area(shapes[:4])  # the maps after the fourth are fed what has changed
    assert torch.equal(before[:, :fed], after[:, :fed])
    assert not torch.equal(before[:, fed:], after[:, fed:])


def test_drawings_without_their_ids_are_refused() -> None:
    model = tiny.model()
    ids, sketch, _ = drawing(model)
    with pytest.raises(ValueError, match="places of a drawing"):
        model(ids[:, :-200], sketch)
    with pytest.raises(ValueError, match="places of a drawing"):
        model(ids)
    with pytest.raises(ValueError, match="needs a prompt"):
        model(ids[:1, 6:], Sketch(vectors=sketch.vectors[:1], shapes=sketch.shapes))
    both = torch.cat([ids[0, 6:-2], ids[0, 6:-2]])[None]
    with pytest.raises(ValueError, match="takes 640 ids of a row"):
        model(torch.cat([both, torch.full_like(both, 60)]), sketch)
