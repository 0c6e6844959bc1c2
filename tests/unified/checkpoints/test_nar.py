"""The published NAR transformers: against the published code's outputs, and against themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unified.cache.policy import Full
from unified.checkpoints import nar_verify
from unified.checkpoints.__main__ import main
from unified.checkpoints.nar import NARTransformer, training_loss
from unified.checkpoints.nar_blocks import rotary_table, rotated
from unified.checkpoints.nar_generation import Prompted, SlotNoise, UntilCount, sampler_of
from unified.checkpoints.nar_published import config_from, load
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.orders import plan_for

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the reference vectors (../shared/golden) are absent"
)
PACKS = ["nar", "nar/t2i", "nar/video"]
SIZES = {"dim": 24, "n_layer": 2, "n_head": 3, "multiple_of": 8, "vocab_size": 20, "num_classes": 5}
OPTIONS = {
    "class": {**SIZES, "block_size": 25, "medusa_attention_num": 2},
    "caption": {**SIZES, "block_size": 9, "model_type": "t2i", "cls_token_num": 4, "caption_dim": 6},
    "video": {**SIZES, "latent_shape": [2, 3, 4], "max_seq_len": 24},
    "frame": {**SIZES, "latent_shape": [1, 2, 4]},
}
KINDS = list(OPTIONS)
MASK = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
GREEDY = Sampler(temperature=0)


def tiny(kind: str, **options: object) -> NARTransformer:
    model = NARTransformer(config_from({**OPTIONS[kind], **options}))
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=rng))
    return model.eval()


def asked(model: NARTransformer) -> tuple[Prompted, list[list[int]], Tensor, Tensor | None]:
    """What two rows are asked for: as prompts, and as a condition with its mask."""
    if model.config.caption_width:
        features = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))
        told = Prompted.by_caption(model, features, MASK)
        return told, list(told.prompts), features, MASK
    told = Prompted.by_class(model)
    return told, [told.prompts[3], told.prompts[1]], torch.tensor([3, 1]), None


def null_of(model: NARTransformer, given: Tensor) -> Tensor:
    if model.config.caption_width:
        return model.cls_embedding.uncond_embedding.detach().expand_as(given)
    return torch.full_like(given, model.config.classes)


def write(model: NARTransformer, **options: object) -> tuple[Tensor, Tensor]:
    """Codes [2, N] and guided logits [2, N, V] in slot order."""
    told, prompts, _, _ = asked(model)
    session = Session(told, rows=2, seed=5)
    session.feed(prompts)
    logits = torch.zeros(2, model.plan().length, model.config.codes)
    for choice in session.image(model.config.shapes, order=model.order, **options):
        logits[:, choice.slots] = choice.logits.squeeze(-2)
    return session.drawing.codes, logits


# Against the published code -------------------------------------------------------------------------------


@needs_golden
@pytest.mark.parametrize("pack", PACKS)
def test_every_published_output_is_recomputed(pack: str) -> None:
    checks = list(nar_verify.verify(GOLDEN / pack))
    assert [str(check) for check in checks if check.ok is False] == []
    assert sorted(check.name for check in checks) == sorted(load_file(GOLDEN / pack / "io.safetensors"))
    left_out = {check.name: check.detail for check in checks if check.ok is None}
    assert set(left_out.values()) == {"not compared: an input"}
    assert set(left_out) <= {"train.idx", "train.labels", "train.valid", "text.features", "text.mask"}


@needs_golden
def test_the_command_knows_the_folders(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(GOLDEN / "nar" / "video")]) == 0
    assert "0 differ" in capsys.readouterr().out


def copied(pack: str, to: Path) -> Path:
    """A golden folder that may be changed."""
    for name in ("config.json", "weights.safetensors", "io.safetensors"):
        (to / name).write_bytes((GOLDEN / pack / name).read_bytes())
    return to


SPOILT = {
    "nar": ["output.weight", "medusa_norm.weight", "layers.3.attention.wqkv.weight"],
    "nar/t2i": ["cls_embedding.uncond_embedding", "cls_embedding.cap_proj.fc1.weight"],
    "nar/video": ["abs_pe", "output_B.weight", "layers.2.feed_forward.w3.weight"],
}


@needs_golden
@pytest.mark.parametrize(("pack", "name"), [(pack, name) for pack in PACKS for name in SPOILT[pack]])
def test_a_changed_weight_fails(pack: str, name: str, tmp_path: Path) -> None:
    folder = copied(pack, tmp_path)
    weights = load_file(folder / "weights.safetensors")
    weights[name].flatten()[-1] += 0.2
    save_file(weights, folder / "weights.safetensors")
    assert any(check.ok is False for check in nar_verify.verify(folder))


@needs_golden
def test_what_is_left_out_says_why(tmp_path: Path) -> None:
    folder = copied("nar", tmp_path)
    stored, config = (
        load_file(folder / "io.safetensors"),
        json.loads((folder / "config.json").read_text()),
    )
    del config["runs"]["sampled_cfg"]["torch_manual_seed"]
    (folder / "config.json").write_text(json.dumps(config))
    stored |= {
        "gen.spun.ids": stored["gen.greedy_cfg.ids"].clone(),
        "train.mood": stored["train.loss"].clone(),
    }
    save_file(stored, folder / "io.safetensors")
    found = {check.name: check.detail for check in nar_verify.verify(folder) if check.ok is None}
    assert found["train.mood"] == "not compared: unknown name"
    assert found["gen.spun.ids"] == "not compared: a run that config.json does not describe"
    assert found["gen.sampled_cfg.ids"] == "not compared: sampled without a seed"


@needs_golden
def test_a_run_without_its_guidance_is_refused(tmp_path: Path) -> None:
    folder = copied("nar", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    del config["runs"]["greedy_cfg"]["cfg_scale"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"a run of config\.json lacks cfg_scale"):
        list(nar_verify.verify(folder))


@needs_golden
def test_weights_saved_after_generation_load(tmp_path: Path) -> None:
    config = json.loads((GOLDEN / "nar" / "config.json").read_text())["model"]
    weights = load_file(GOLDEN / "nar" / "weights.safetensors")
    cache = {"layers.0.attention.kv_cache.k_cache": torch.zeros(2, 4, 40, 16)}
    model = load(config, {"model": weights | cache})
    assert torch.equal(model.tok_embeddings.weight, weights["tok_embeddings.weight"])
    with pytest.raises(ValueError, match="weights do not fit"):
        load({**config, "n_layer": 4}, weights)


# Against themselves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_cached_generation_equals_one_pass(kind: str) -> None:
    model = tiny(kind)
    _, _, given, mask = asked(model)
    codes, stepwise = write(model, sampler=GREEDY)
    with torch.no_grad():
        whole = model(given, codes, mask)
    torch.testing.assert_close(stepwise, whole, atol=1e-4, rtol=1e-4)
    assert torch.equal(codes, whole.argmax(-1))


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_is_a_combination_of_two_passes(kind: str) -> None:
    model = tiny(kind)
    _, _, given, mask = asked(model)
    codes, logits = write(model, sampler=Sampler(top_k=5), guidance=Constant(2.5))
    with torch.no_grad():
        conditional, null = (model(x, codes, mask) for x in (given, null_of(model, given)))
    torch.testing.assert_close(logits, null + 2.5 * (conditional - null), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_code_changes_no_logits_of_its_own_or_an_earlier_step(kind: str) -> None:
    model = tiny(kind).double()
    _, _, given, mask = asked(model)
    given = given.double() if given.is_floating_point() else given
    labels = model.plan().labels
    codes = torch.randint(20, (2, len(labels)), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before = model(given, codes, mask)
        for slot in range(len(labels)):
            changed = codes.clone()
            changed[:, slot] = (changed[:, slot] + 1) % 20
            differs = (model(given, changed, mask) != before).any(dim=-1).any(dim=0)
            assert not differs[labels <= labels[slot]].any()
            assert labels[slot] == labels.max() or differs.any()


def test_padding_of_captions_changes_nothing() -> None:
    model = tiny("caption")
    _, _, features, mask = asked(model)
    codes = torch.randint(20, (2, 9), generator=torch.Generator().manual_seed(2))
    other = torch.where(mask[..., None] > 0, features, features + 1)
    with torch.no_grad():
        assert torch.equal(model(features, codes, mask), model(other, codes, mask))
        assert not torch.equal(model(features, codes), model(other, codes))
    with pytest.raises(ValueError, match="padding of a caption must come before it"):
        Prompted.by_caption(model, features, mask.flip(1))
    with pytest.raises(ValueError, match=r"need features \[B, 4, 6\]"):
        Prompted.by_caption(model, features[:, 1:], mask)


def test_mixing_is_the_mean_over_neighbours() -> None:
    """By hand, for frames: right of the left one, below the upper one, behind the one before."""
    model = tiny("video")
    codes = torch.randint(20, (1, 24), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        raw = model.raw_logits(torch.tensor([2]), codes)
        mixed = model.mixed(raw)[0].view(2, 3, 4, 20)
    right, down, back = (part[0, 1:].view(2, 3, 4, 20) for part in raw)
    torch.testing.assert_close(mixed[0, 0, 0], torch.stack([part[0, 0] for part in raw]).mean(dim=0))
    torch.testing.assert_close(mixed[0, 0, 1:], right[0, 0, :-1])
    torch.testing.assert_close(mixed[0, 1:, 0], down[0, :-1, 0])
    torch.testing.assert_close(mixed[1, 0, 0], back[0, 0, 0])
    torch.testing.assert_close(mixed[0, 1:, 1:], (right[0, 1:, :-1] + down[0, :-1, 1:]) / 2)
    interior = (right[1, 1:, :-1] + down[1, :-1, 1:] + back[0, 1:, 1:]) / 3
    torch.testing.assert_close(mixed[1, 1:, 1:], interior)


def test_rotation_is_that_of_complex_numbers() -> None:
    """Rows turn the first half of the channels, columns the second; the condition becomes zero."""
    model = tiny("class")
    index, positions = model.sequence()
    table = rotary_table(model.config, index, positions)
    x = torch.randn(1, 26, 3, 8)
    turned = rotated(x, table)
    assert not turned[:, 0].any()
    for row, column in ((0, 0), (1, 4), (3, 2)):
        angles = torch.tensor([row, row / 100, column, column / 100])  # 10000 ** (-2 i / 4)
        where = 1 + 5 * row + column
        expected = torch.view_as_complex(x[0, where].unflatten(-1, (4, 2))) * torch.exp(1j * angles)
        torch.testing.assert_close(turned[0, where], torch.view_as_real(expected).flatten(-2))


def test_guidance_ends_by_the_number_of_codes() -> None:
    plan = plan_for("nar", ((4, 4),))  # 1, 2, 3, 4, 3, 2, 1 codes
    assert [UntilCount(3.0, 3).weight(plan, step) for step in range(7)] == [2, 2, 2, 0, 0, 0, 0]
    assert [UntilCount(3.0, 0).weight(plan, step) for step in range(3)] == [2, 0, 0]
    assert all(UntilCount(3.0).weight(plan, step) == 2 for step in range(7))


def test_noise_is_drawn_slot_by_slot() -> None:
    probs = torch.rand(2, 3, 1, 50, generator=torch.Generator().manual_seed(0))
    drawn = SlotNoise(torch.Generator().manual_seed(4)).draw(probs, torch.zeros(2, 3, dtype=torch.long))
    rng = torch.Generator().manual_seed(4)
    expected = [torch.multinomial(probs[:, n, 0], 1, generator=rng) for n in range(3)]
    assert torch.equal(drawn[..., 0], torch.cat(expected, dim=1))


def test_filters_are_the_published_ones() -> None:
    logits = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).log()
    kept = [
        (sampler_of(temperature=1.0, top_k=k, top_p=p).filter(logits) > -torch.inf).sum().item()
        for k, p in ((0, 1.0), (3, 1.0), (0, 0.6), (0, 0.75), (2, 0.99), (0, 0.0))
    ]
    assert kept == [5, 3, 2, 3, 2, 1]
    assert sampler_of(temperature=0.0, top_k=0, top_p=1.0).temperature > 0


def test_a_session_draws_again() -> None:
    model = tiny("class")
    told, prompts, _, _ = asked(model)
    session = Session(told, rows=2)
    session.feed(prompts, defer=True)
    options = {"order": "nar", "sampler": GREEDY}
    first = session.draw(model.config.shapes, **options)
    assert torch.equal(session.draw(model.config.shapes, **options).codes, first.codes)
    kept = Session(told, rows=2, policy=Full())
    kept.feed(prompts)
    guided = kept.draw(model.config.shapes, guidance=Constant(2.0), **options)
    assert torch.equal(kept.draw(model.config.shapes, guidance=Constant(2.0), **options).codes, guided.codes)


def test_rows_do_not_depend_on_the_batch() -> None:
    """Captions of different lengths, and each alone."""
    model = tiny("caption")
    told, prompts, _, _ = asked(model)
    both, _ = write(model, sampler=GREEDY, guidance=Constant(2.0))
    for row, prompt in enumerate(prompts):
        session = Session(told)
        session.feed(prompt)
        alone = session.draw(model.config.shapes, order="nar", sampler=GREEDY, guidance=Constant(2.0))
        assert torch.equal(alone.codes[0], both[row])


# Training -------------------------------------------------------------------------------------------------


def test_training_fits_a_few_images() -> None:
    model = tiny("class", block_size=9).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.4)
    rng = torch.Generator().manual_seed(1)
    labels, codes = torch.arange(4), torch.randint(20, (4, 9), generator=rng)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = training_loss(model(labels, codes), codes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.5


def test_samples_that_are_not_valid_do_not_count() -> None:
    logits, codes = torch.randn(3, 9, 20), torch.randint(20, (3, 9))
    only = training_loss(logits, codes, torch.tensor([0, 1, 0]))
    torch.testing.assert_close(only, training_loss(logits[1:2], codes[1:2]))
    assert float(training_loss(logits, codes, torch.zeros(3))) == 0


@pytest.mark.parametrize("name", ["token_dropout_p", "resid_dropout_p", "ffn_dropout_p"])
def test_drops_act_in_training_only(name: str) -> None:
    model = tiny("class", **{name: 0.3})
    labels, codes = torch.tensor([1]), torch.zeros(1, 25, dtype=torch.long)
    assert torch.equal(model(labels, codes), model(labels, codes))
    model.train()
    assert not torch.equal(model(labels, codes), model(labels, codes))


# Bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("class", {"rope": True}, "unknown option 'rope'"),
        ("video", {"block_size": 9}, "unknown option 'block_size'"),
        ("class", {"block_size": 24}, "block_size must be a square"),
        ("class", {"cls_token_num": 2}, "a class is one condition token, got 2"),
        ("class", {"n_kv_head": 1}, "n_kv_head must be n_head 3, got 1"),
        ("class", {"dim": 26}, "width 26 is not a multiple of 3 heads"),
        ("class", {"dim": 18}, "heads of a multiple of 4 channels, got 6"),
        ("video", {"max_seq_len": 25}, r"latent_shape \[2, 3, 4\] holds no 25 codes"),
        ("class", {"vocab_size": 1}, "codes must be at least 2, got 1"),
    ],
)
def test_options_that_do_not_fit_are_named(kind: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config_from({**OPTIONS[kind], **options})
    with pytest.raises(ValueError, match="lack vocab_size"):
        config_from({name: value for name, value in OPTIONS[kind].items() if name != "vocab_size"})


def test_bad_requests_are_refused() -> None:
    model = tiny("class")
    told, prompts, _, _ = asked(model)
    with pytest.raises(ValueError, match=r"label 6 is not in 0\.\.5"):
        model(torch.tensor([6]), torch.zeros(1, 25, dtype=torch.long))
    with pytest.raises(ValueError, match=r"codes \[1, 25\], got \(1,\) and \(1, 24\)"):
        model(torch.tensor([1]), torch.zeros(1, 24, dtype=torch.long))
    empty = Session(told, rows=2)
    with pytest.raises(ValueError, match="nothing has been read yet"):
        empty.draw(model.config.shapes, order="nar")
    session = Session(told, rows=2)
    session.feed(prompts)
    with pytest.raises(ValueError, match="this model writes maps"):
        session.draw([3], order="nar")
    with pytest.raises(ValueError, match="told its condition once"):
        session.feed(prompts)
    session = Session(told, rows=2)
    session.feed(prompts)
    with pytest.raises(ValueError, match="images only"):
        list(session.text())
