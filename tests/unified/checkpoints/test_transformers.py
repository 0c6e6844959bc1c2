"""The VAR and FlexVAR transformers: against the published code's outputs, and against themselves."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.residual_vq import ResidualVQConfig, ResidualVQTokenizer
from unified.tokenizers.vq import VQConfig, VQTokenizer

from unified.checkpoints import flexvar, flexvar_verify, var, var_verify
from unified.checkpoints.adaln import TransformerConfig
from unified.checkpoints.generation import GREEDY, forbid, generate, greedy_where_unusual
from unified.checkpoints.linear import Linear, LinearGELU
from unified.checkpoints.next_scale import NextScaleTransformer, drop_labels
from unified.checkpoints.published import (
    BUFFERS,
    config_from,
    initialise,
    released,
    training_loss,
)
from unified.decoding.guidance import Constant, Ramp
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import OnePass, Shallow, Speculative
from unified.orders.shapes import Shapes, area

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the reference vectors (../shared/golden) are absent"
)
CASES = [(kind, case) for kind in ("var", "flexvar") for case in ("aln_l2", "saln_l2", "aln_nol2")]
VERIFY = {"var": var_verify, "flexvar": flexvar_verify}
SHAPES: Shapes = ((1, 1), (2, 2), (3, 3))
SIDES = (1, 2, 3)


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))


def tiny(kind: str, **options: object) -> NextScaleTransformer:
    """A random transformer of two layers with its tokenizer."""
    fields = {"codes": 16, "code_width": 8, "width": 32, "shapes": SHAPES, **options}
    config = TransformerConfig(**fields)
    network = NetworkConfig(latent=8, width=32, multipliers=(1, 1), blocks=0)
    torch.manual_seed(0)
    if kind == "var":
        tokenizer = ResidualVQTokenizer(ResidualVQConfig(codes=16, network=network, sizes=SIDES))
        model: NextScaleTransformer = var.VAR(config, tokenizer.eval())
    else:
        model = flexvar.FlexVAR(config, VQTokenizer(VQConfig(codes=16, dim=8, encoder=network)).eval())
    randomise(model)
    return model.eval()


@pytest.fixture(params=["var", "flexvar"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def forced(model: NextScaleTransformer, labels: Tensor, codes: list[Tensor], shapes: Shapes) -> list[Tensor]:
    """Logits by map of one pass over everything."""
    with torch.no_grad():
        vectors = model.tokenizer.transformer_inputs(codes, shapes)
        return list(model(labels, vectors, shapes).split([area((shape,)) for shape in shapes], dim=1))


# Against the published code -------------------------------------------------------------------------------


@needs_golden
@pytest.mark.parametrize(("kind", "case"), CASES)
def test_every_published_output_is_recomputed(kind: str, case: str) -> None:
    folder = GOLDEN / f"{kind}_transformer" / case
    checks = list(VERIFY[kind].verify(folder))
    assert [str(check) for check in checks if check.ok is False] == []
    assert sorted(check.name for check in checks) == sorted(load_file(folder / "io.safetensors"))
    left_out = {check.name: check.detail for check in checks if check.ok is None}
    assert set(left_out.values()) == {"not compared: an input"}
    assert all("label_B" in name or "gt_idx" in name or name == "filter.logits_in" for name in left_out)


def copied(kind: str, case: str, to: Path) -> Path:
    """A golden folder that may be changed."""
    source = GOLDEN / f"{kind}_transformer" / case
    config = json.loads((source / "config.json").read_text())
    config["tokenizer"] = str((source / config["tokenizer"]).resolve())
    (to / "config.json").write_text(json.dumps(config))
    for name in ("weights.safetensors", "io.safetensors"):
        (to / name).write_bytes((source / name).read_bytes())
    return to


def change_weights(folder: Path, change: object) -> None:
    weights = load_file(folder / "weights.safetensors")
    save_file(change(weights), folder / "weights.safetensors")


@needs_golden
@pytest.mark.parametrize("name", ["head.bias", "blocks.1.attn.q_bias", "blocks.0.ffn.fc1.weight", "pos_1LC"])
def test_one_changed_weight_fails(kind: str, name: str, tmp_path: Path) -> None:
    folder = copied(kind, "aln_nol2", tmp_path)

    def change(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        weights[name].flatten()[0] += 0.2
        return weights

    change_weights(folder, change)
    assert any(check.ok is False for check in VERIFY[kind].verify(folder))


def truncated(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weights[name] for name in sorted(weights)[:20]}


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    weights["heads.weight"] = weights.pop("head.weight")
    return weights


def deeper(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    last = {name: value.clone() for name, value in weights.items() if name.startswith("blocks.1.")}
    return weights | {name.replace("blocks.1.", "blocks.2."): value for name, value in last.items()}


def wider(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    double = {
        name: value.repeat(2, *[1] * (value.dim() - 1)) for name, value in weights.items() if "fc1" in name
    }
    return weights | double


def biased_keys(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    weights["blocks.0.attn.zero_k_bias"][3] = 1.0
    return weights


@needs_golden
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (truncated, "missing"),
        (renamed, "head.weight"),
        (deeper, "found 3 of blocks.*, expected 2"),
        (wider, r"expected \(256, 64\), found \(512, 64\)|expected \(256,\), found \(512,\)"),
        (biased_keys, "expected blocks.0.attn.zero_k_bias to be zero"),
    ],
)
def test_weights_that_do_not_fit_are_refused_shortly(
    kind: str, change: object, said: str, tmp_path: Path
) -> None:
    folder = copied(kind, "aln_nol2", tmp_path)
    change_weights(folder, change)
    with pytest.raises(ValueError, match=said) as refusal:
        VERIFY[kind].load(folder)
    assert len(str(refusal.value)) < 250
    assert "\n" not in str(refusal.value)


@needs_golden
def test_other_levels_and_masks(tmp_path: Path) -> None:
    folder = copied("var", "aln_nol2", tmp_path)
    change_weights(folder, lambda weights: {**weights, "lvl_1L": weights["lvl_1L"] * 0})
    with pytest.raises(ValueError, match="levels"):
        var_verify.load(folder)
    folder = copied("flexvar", "aln_nol2", tmp_path)  # carries the mask of the last schedule used
    change_weights(folder, lambda weights: {**weights, "attn_bias_for_masking": torch.zeros(1, 1, 7, 7)})
    flexvar_verify.load(folder)


@needs_golden
@pytest.mark.parametrize("suite", ["var", "flexvar"])
def test_released_sizes(suite: str) -> None:
    manifest = json.loads((GOLDEN / f"{suite}_transformer" / "official_state_dict_manifest.json").read_text())
    for name, entry in manifest.items():
        if "state_dict" not in entry or "depth" not in entry["config"]:
            continue
        pixels = 512 if entry["config"]["shared_aln"] else 256
        codes = entry["state_dict"]["head.weight"][1][0]
        config = released(entry["config"]["depth"], pixels=pixels, codes=codes)
        with torch.device("meta"):
            model = var.VAR(config) if suite == "var" else flexvar.FlexVAR(config)
        ours = {key: list(value.shape) for key, value in model.state_dict().items()}
        theirs = {key: shape for key, (_, shape) in entry["state_dict"].items()}
        assert ours == {key: shape for key, shape in theirs.items() if key.split(".")[-1] not in BUFFERS}, (
            name
        )
        assert sum(parameter.numel() for parameter in model.parameters()) == entry["n_params"]


def test_run_names_that_are_not_understood_are_not_guessed() -> None:
    assert var_verify.parse_run("cfg1.5_twirled", SHAPES) is None
    run = var_verify.parse_run("sampled_k8_p0.9_seed7", SHAPES)
    assert run is not None
    assert (run.top_k, run.top_p, run.seed, run.guidance) == (8, 0.9, 7, Ramp(1.5))
    sampled = var_verify.parse_run("sampled_k8_p0.9", SHAPES)
    assert sampled is not None
    assert "seed" in sampled.obstacle


@needs_golden
def test_what_is_left_out_says_why(tmp_path: Path) -> None:
    folder = copied("var", "aln_nol2", tmp_path)
    stored = load_file(folder / "io.safetensors")
    codes = stored["gen.cfg0.idx.0"]
    extra = {"tf.temper": codes, "gen.sampled_k8.idx.0": codes, "gen.spun.idx.0": codes}
    save_file({name: value.clone() for name, value in (stored | extra).items()}, folder / "io.safetensors")
    found = {check.name: check.detail for check in var_verify.verify(folder) if check.ok is None}
    assert found["tf.temper"] == "not compared: unknown name"
    assert found["gen.sampled_k8.idx.0"] == "not compared: sampled without a seed"
    assert found["gen.spun.idx.0"] == "not compared: a run of unknown options"


# Against themselves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("unit", [False, True])
def test_cached_generation_equals_one_pass(kind: str, shared: bool, unit: bool) -> None:
    model = tiny(kind, shared_modulation=shared, unit_attention=unit)
    labels = torch.tensor([3, 10])
    made = generate(model, labels, SHAPES)
    for step, (stepwise, whole) in enumerate(
        zip(made.logits, forced(model, labels, made.codes, SHAPES), strict=True)
    ):
        torch.testing.assert_close(stepwise, whole, msg=f"map {step}")
        assert torch.equal(made.codes[step], whole.argmax(-1))


def test_guidance_is_a_combination_of_two_passes(kind: str) -> None:
    model, labels = tiny(kind), torch.tensor([3, 5])
    made = generate(
        model, labels, SHAPES, guidance=Ramp(2.0), sampler=Sampler(top_k=4), noise=PositionNoise([1, 2])
    )
    conditional = forced(model, labels, made.codes, SHAPES)
    null = forced(model, torch.full_like(labels, model.null_label), made.codes, SHAPES)
    for step, logits in enumerate(made.logits):
        weight = 2.0 * step / 2
        torch.testing.assert_close(
            logits, (1 + weight) * conditional[step] - weight * null[step], atol=1e-4, rtol=1e-4
        )


def test_a_later_code_changes_no_earlier_logits(kind: str) -> None:
    model, labels = tiny(kind), torch.tensor([1])
    codes = [torch.randint(16, (1, area((shape,)))) for shape in SHAPES]
    before = forced(model, labels, codes, SHAPES)
    for step in range(len(SHAPES)):
        changed = [ids.clone() for ids in codes]
        changed[step] = (changed[step] + 1) % 16
        after = forced(model, labels, changed, SHAPES)
        assert all(torch.equal(before[earlier], after[earlier]) for earlier in range(step + 1))
        if step + 1 < len(SHAPES):
            assert not torch.equal(before[step + 1], after[step + 1])


def test_rows_do_not_depend_on_the_batch(kind: str) -> None:
    model, sampler = tiny(kind), Sampler(top_k=5, top_p=0.9)
    options = {"guidance": Ramp(1.5), "sampler": sampler}
    both = generate(model, torch.tensor([2, 7]), SHAPES, noise=PositionNoise([5, 6]), **options)
    alone = generate(model, torch.tensor([7]), SHAPES, noise=PositionNoise([6]), **options)
    assert all(torch.equal(b[1:], a) for b, a in zip(both.codes, alone.codes, strict=True))


@pytest.mark.parametrize(
    ("guidance", "rows", "conditions"),
    [(None, 2, 1), (Ramp(0.0), 2, 1), (Constant(1.0), 2, 1), (Ramp(1.0), 4, 2)],
)
def test_work_that_is_not_needed_is_not_done(guidance: object, rows: int, conditions: int) -> None:
    """Without guidance there is no null branch; modulations are computed once per image, not per map."""
    model = tiny("var")
    seen, modulated = [], []
    model.blocks[0].register_forward_hook(lambda module, given, output: seen.append(len(given[0])))
    model.blocks[0].ada_lin.register_forward_hook(lambda *_: modulated.append(1))
    generate(model, torch.tensor([1, 2]), SHAPES, guidance=guidance)
    assert set(seen) == {rows}
    assert len(modulated) == conditions


def test_a_session_draws_again(kind: str) -> None:
    model = tiny(kind)
    session = Session(model, rows=2)
    session.feed([model.prompt(4), model.prompt(9)])
    first = session.draw(SHAPES, order=model.order, sampler=GREEDY, guidance=Ramp(1.0))
    again = session.draw(SHAPES, order=model.order, sampler=GREEDY, guidance=Ramp(1.0))
    assert torch.equal(first.codes, again.codes)
    images = model.image(first.maps(), SHAPES) if kind == "flexvar" else model.image(first.maps())
    assert images.shape == (2, 3, 6, 6)
    assert kind == "flexvar" or (images.min() >= 0 and images.max() <= 1)


@pytest.mark.parametrize("skipped", [(), (1,)], ids=["same", "shallow"])
def test_maps_that_are_drafted_and_verified_are_those_of_one_pass_a_step(
    kind: str, skipped: tuple[int, ...]
) -> None:
    model = tiny(kind)
    drawn = []
    for strategy in (OnePass(), Speculative(draft=Shallow(skipped=skipped), length=2)):
        session = Session(model, rows=2, strategy=strategy)
        session.feed([model.prompt(4), model.prompt(9)])
        drawn.append(session.draw(SHAPES, order=model.order, sampler=GREEDY, guidance=Ramp(1.0)).codes)
    assert session.stats.drafted.sum() > 0
    assert torch.equal(*drawn)
    assert skipped or (session.stats.acceptance == 1).all()


def test_flexvar_takes_any_maps() -> None:
    model, shapes = tiny("flexvar"), ((1, 1), (2, 3), (2, 3), (3, 5), (2, 7))
    made = generate(model, torch.tensor([3]), shapes, guidance=Constant(3.0))
    assert model.image(made.codes, shapes).shape == (1, 3, 4, 14)
    whole = forced(model, torch.tensor([3]), made.codes, shapes)
    null = forced(model, torch.tensor([10]), made.codes, shapes)
    torch.testing.assert_close(made.logits[-1], 3 * whole[-1] - 2 * null[-1], atol=1e-4, rtol=1e-4)


def test_flexvar_takes_the_likeliest_codes_of_unusual_maps() -> None:
    model, shapes = tiny("flexvar"), ((1, 1), (3, 3), (7, 7), (4, 4))
    made = generate(
        model,
        torch.tensor([3]),
        shapes,
        sampler=Sampler(temperature=20.0),
        noise=PositionNoise([0]),
        hooks=[greedy_where_unusual(3)],
    )
    greedy = [
        torch.equal(codes, logits.argmax(-1)) for codes, logits in zip(made.codes, made.logits, strict=True)
    ]
    assert greedy[2:] == [True, True]
    assert not all(greedy[:2])


def test_forbidden_codes_are_not_drawn(kind: str) -> None:
    model, labels = tiny(kind), torch.tensor([3, 4])
    free = generate(model, labels, SHAPES)
    banned = sorted(set(torch.cat(free.codes, dim=1).flatten().tolist()))[:8]
    made = generate(model, labels, SHAPES, hooks=[forbid(banned)])
    assert not set(torch.cat(made.codes, dim=1).flatten().tolist()) & set(banned)


def test_flexvar_positions_start_as_waves() -> None:
    table = flexvar.waves(12)
    for channel, row, column in ((0, 3, 9), (4, 31, 0), (5, 8, 2), (11, 1, 30)):
        angle = (row if channel % 2 == 0 else column) * 10000 ** (-2 * (channel // 2) / 12)
        want = math.sin(angle) if channel % 2 == 0 else math.cos(angle)
        assert float(table[channel, row, column]) == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fast_and_ordinary_linear_maps_agree(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 3e-2, "rtol": 3e-2}
    x = torch.randn(2, 7, 24, dtype=dtype)
    for layer in (Linear(24, 40), LinearGELU(24, 40), Linear(24, 40, bias=False)):
        ordinary = layer.to(dtype)(x)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), ordinary, **tolerance)
    bias = torch.randn(40, dtype=dtype)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, bias), layer(x) + bias, **tolerance)


def test_bfloat16_stays_close_and_leaves_the_tokenizer_alone(kind: str) -> None:
    model, labels = tiny(kind), torch.tensor([3, 5])
    made = generate(model, labels, SHAPES)
    exact = torch.cat(made.logits, dim=1)
    model.to(torch.bfloat16)
    rough = torch.cat(forced(model, labels, made.codes, SHAPES), dim=1)
    assert rough.dtype == torch.float32
    assert (rough - exact).norm() < 0.05 * exact.norm()
    assert {parameter.dtype for parameter in model.tokenizer.parameters()} == {torch.float32}
    assert generate(model, labels, SHAPES, guidance=Ramp(1.5)).codes[-1].shape == (2, 9)


def test_the_state_dict_is_the_transformers_alone(kind: str) -> None:
    model = tiny(kind)
    assert not any("tokenizer" in name or "encoder" in name for name in model.state_dict())
    fresh = type(model)(model.config)
    fresh.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="tokenizer"):
        generate(fresh, torch.tensor([0]), SHAPES)


# Training -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_published_first_weights(kind: str, shared: bool) -> None:
    model = tiny(kind, shared_modulation=shared, width=64, heads=2, depth=3)
    before = model.pos_1LC.detach().clone()
    initialise(model, generator=torch.Generator().manual_seed(0))
    block = model.blocks[1]
    deviation = math.sqrt(1 / 64 / 3)
    assert float(block.ffn.fc1.weight.detach().std()) == pytest.approx(deviation, rel=0.05)
    assert float(block.ffn.fc2.weight.detach().std()) == pytest.approx(deviation / math.sqrt(6), rel=0.05)
    assert float(model.head.weight.detach().std()) == pytest.approx(0.02 * deviation, rel=0.1)
    gates = block.ada_gss[0, 0, :2] if shared else block.ada_lin[1].weight[:128]
    assert float(gates.detach().abs().max()) < 1e-4
    assert torch.equal(model.pos_1LC, before) == (kind == "flexvar")
    vectors = torch.randn(2, 13, 8)
    logits = model(torch.tensor([0, 1]), vectors)
    codes = torch.randint(16, (2, 14))
    assert float(training_loss(logits, codes).detach()) == pytest.approx(math.log(16), abs=0.05)


def test_training_fits_a_few_images(kind: str) -> None:
    model = tiny(kind)
    initialise(model, generator=torch.Generator().manual_seed(0))
    model.train()
    rng = torch.Generator().manual_seed(1)
    labels = torch.arange(4)
    codes = [torch.randint(16, (4, area((shape,))), generator=rng) for shape in SHAPES]
    vectors = model.tokenizer.transformer_inputs(codes, SHAPES).detach()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = training_loss(model(labels, vectors, SHAPES), torch.cat(codes, dim=1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.7
    made = generate(model.eval(), labels, SHAPES)
    assert (made.codes[0] == codes[0]).all()


def test_drops_act_in_training_only() -> None:
    options = {"num_classes": 10, "depth": 2, "embed_dim": 32, "num_heads": 4, "patch_nums": SIDES}
    options |= {"drop_rate": 0.2, "attn_drop_rate": 0.2, "drop_path_rate": 0.2}
    model = var.VAR(config_from(options, codes=16, code_width=8))
    randomise(model)
    labels, vectors = torch.tensor([0, 1]), torch.randn(2, 13, 8)
    assert not torch.equal(model(labels, vectors), model(labels, vectors))
    model.eval()
    assert torch.equal(model(labels, vectors), model(labels, vectors))


def test_labels_are_dropped_at_the_rate() -> None:
    labels = torch.randint(10, (4000,))
    dropped = drop_labels(labels, 0.25, 10, torch.Generator().manual_seed(0))
    gone = dropped == 10
    assert float(gone.float().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(dropped[~gone], labels[~gone])


def test_drawn_schedules_keep_the_rules() -> None:
    rng = random.Random(0)
    drawn = [flexvar.draw_sides(rng) for _ in range(400)]
    assert all(sides[:2] == [1, 2] and sides[-1] == 16 and sides == sorted(sides) for sides in drawn)
    assert all(sum(side * side for side in sides) <= 680 for sides in drawn)
    assert len({tuple(sides) for sides in drawn}) > 100
    assert any(flexvar.draw_sides(rng, keep_finest=False)[-1] != 16 for _ in range(200))


# Bad input ------------------------------------------------------------------------------------------------


def test_tokenizer_and_transformer_must_agree(kind: str) -> None:
    model = tiny(kind)
    for change, said in (
        ({"codes": 17}, "17 codes, the tokenizer has 16"),
        ({"code_width": 9}, "vectors of 9"),
    ):
        with pytest.raises(ValueError, match=said):
            type(model)(replace(model.config, **change), model.tokenizer)


def test_scales_must_agree() -> None:
    model = tiny("var")
    with pytest.raises(ValueError, match="maps of 1, 2, 4, the tokenizer has 1, 2, 3"):
        var.VAR(replace(model.config, shapes=((1, 1), (2, 2), (4, 4))), model.tokenizer)
    with pytest.raises(ValueError, match="trained on maps of 1, 2, 3"):
        generate(model, torch.tensor([0]), ((1, 1), (2, 2)))


def test_bad_requests_are_refused(kind: str) -> None:
    model = tiny(kind)
    with pytest.raises(ValueError, match=r"label 11 is not in 0\.\.10"):
        model(torch.tensor([3, 11]), torch.zeros(2, 13, 8))
    with pytest.raises(ValueError, match=r"need input vectors \(1, 13, 8\), got \(1, 12, 8\)"):
        model(torch.tensor([3]), torch.zeros(1, 12, 8))
    session = Session(model)
    session.feed(model.prompt(3))
    with pytest.raises(ValueError, match="one map per step"):
        session.draw([3], order="raster")
    with pytest.raises(ValueError, match=r"images only|nothing has been read"):
        list(session.text())


def test_unknown_options_are_named() -> None:
    with pytest.raises(ValueError, match="unknown option 'rope'"):
        config_from({"patch_nums": SIDES, "rope": True}, codes=16, code_width=8)
    with pytest.raises(ValueError, match="patch_nums"):
        config_from({"depth": 2}, codes=16, code_width=8)
    with pytest.raises(ValueError, match="256 and 512"):
        released(16, pixels=300)
