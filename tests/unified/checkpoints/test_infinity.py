"""Infinity's transformer: against the published code's outputs, and against itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unified.cache.policy import Held
from unified.checkpoints import infinity_verify
from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_bits import BitGrid
from unified.checkpoints.infinity_config import RELEASED, InfinityConfig, config_from, released
from unified.checkpoints.infinity_decoder import DecoderConfig, InfinityDecoder, to_bytes
from unified.checkpoints.infinity_generation import GREEDY, Habits, LayerGuidance, feed, generate
from unified.checkpoints.infinity_published import renamed, token_weights, training_loss
from unified.checkpoints.infinity_rope import rotate, rotations
from unified.checkpoints.infinity_schedules import LONGEST_SIDE, full_grid, schedule, schedules
from unified.decoding.guidance import Constant, Guidance, PerStep
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.orders.shapes import Shapes, area

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the reference vectors (../shared/golden) are absent"
)
CASES = ("infinity_transformer", "infinity_transformer_patchify")
SHAPES: Shapes = ((1, 1), (2, 2), (3, 2), (4, 4))


def tiny(seed: int = 0, **options: object) -> Infinity:
    """A random transformer of two layers."""
    model = Infinity(InfinityConfig(**options))
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    return model.eval()


def some_texts(*lengths: int, seed: int = 0) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(length, 128, generator=rng) for length in lengths]


@torch.no_grad()
def forced(model: Infinity, texts: list[Tensor], codes: list[Tensor], shapes: Shapes) -> list[Tensor]:
    """Logits by map [B, n, 2 S] of one pass over everything."""
    symbols = model.head.to_symbols(torch.cat(codes, dim=1))
    logits = model(texts, model.grid.transformer_inputs(symbols, shapes), shapes).flatten(-2)
    return list(logits.split([area((shape,)) for shape in shapes], dim=1))


def learnt(model: Infinity, texts: list[Tensor]) -> list[Tensor]:
    """What the null branch is told."""
    return [model.text.cfg_uncond[: len(text)].detach() for text in texts]


@pytest.fixture(params=[False, True], ids=["plain", "patchify"])
def patchify(request: pytest.FixtureRequest) -> bool:
    return request.param


# Against the published code -------------------------------------------------------------------------------


@needs_golden
@pytest.mark.parametrize("case", CASES)
def test_every_published_output_is_recomputed(case: str) -> None:
    folder = GOLDEN / case
    checks = list(infinity_verify.verify(folder))
    assert [str(check) for check in checks if check.ok is False] == []
    assert sorted(check.name for check in checks) == sorted(load_file(folder / "io.safetensors"))
    left_out = {check.name: check.detail for check in checks if check.ok is None}
    assert set(left_out.values()) == {"not compared: an input"}
    assert all("text." in name or name in ("tf.latent", "scale_schedule") for name in left_out)


def copied(to: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], **options: object) -> Path:
    """A golden folder with other weights and options, of which the runs of generation are left out."""
    source = GOLDEN / CASES[0]
    config = json.loads((source / "config.json").read_text())
    config["transformer"] |= options
    (to / "config.json").write_text(json.dumps(config))
    stored = load_file(source / "io.safetensors")
    kept = {k: v for k, v in stored.items() if k.startswith(("tf.", "text.", "scale", "rope"))}
    save_file(kept, to / "io.safetensors")
    save_file(change(load_file(source / "weights.safetensors")), to / "weights.safetensors")
    return to


@needs_golden
@pytest.mark.parametrize("name", ["head.bias", "pos_start", "block_chunks.1.module.1.ca.mat_q.weight"])
def test_one_changed_weight_fails(name: str, tmp_path: Path) -> None:
    def change(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        weights[f"transformer.{name}"].flatten()[:2] += 0.5
        return weights

    failed = {check.name for check in infinity_verify.verify(copied(tmp_path, change)) if check.ok is False}
    assert "tf.logits" in failed
    assert "tf.labels" not in failed


@needs_golden
def test_other_names_and_forms_of_weights(tmp_path: Path) -> None:
    """One chunk of blocks is called `blocks`; models made for the fused kernel have scales [1, 1, H, 1]."""

    def change(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for name, value in weights.items():
            for block in range(4):
                name = name.replace(f"block_chunks.{block // 2}.module.{block % 2}.", f"blocks.{block}.")
            found[name] = value.transpose(1, 2).contiguous() if name.endswith("scale_mul_1H11") else value
        return found

    folder = copied(tmp_path, change, block_chunks=1)
    assert [str(check) for check in infinity_verify.verify(folder) if check.ok is False] == []


@needs_golden
@pytest.mark.parametrize(
    ("name", "said"),
    [("head.bias", "head.projection.bias"), ("cfg_uncond", "cfg_uncond"), ("lvl_embed.weight", "missing")],
)
def test_weights_that_do_not_fit_are_refused_shortly(name: str, said: str, tmp_path: Path) -> None:
    def change(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: value for key, value in weights.items() if key != f"transformer.{name}"}

    with pytest.raises(ValueError, match=said) as refusal:
        infinity_verify.load(copied(tmp_path, change))
    assert len(str(refusal.value)) < 250


@pytest.mark.slow
@needs_golden
@pytest.mark.slow
def test_a_megapixel_image_is_that_of_the_full_cache() -> None:
    """10,521 tokens with guidance, from the folder of ScaleKV."""
    stored = load_file(GOLDEN / "scalekv" / "io.safetensors")
    model = infinity_verify.load(GOLDEN / CASES[0])
    texts, _ = infinity_verify.read_texts(GOLDEN / CASES[0])
    made = generate(model, texts[:1], schedule(), Constant(3.0))
    symbols = model.head.to_symbols(torch.cat(made.codes, dim=1))
    assert torch.equal(symbols, stored["e2e.bits_full_cache"].long())
    last = torch.cat([logits[:, :64] for logits in made.logits[-3:]])
    torch.testing.assert_close(last, stored["e2e.logits_head_last3_full"], atol=2e-4, rtol=0)


def test_released_sizes() -> None:
    for name, (depth, width, heads) in RELEASED.items():
        config = released(name)
        assert (config.depth, config.width, config.heads, config.pool_heads) == (depth, width, heads, 16)
    assert (released("2b").grid.token_bits, released("8b").grid.token_bits) == (32, 56)
    assert released("layer32").inner == 8192  # 4 * 2080 to the nearest multiple of 256, half to even
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in Infinity(released("2b")).parameters())
    assert 1.9e9 < parameters < 2.3e9


# Against itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"rope": 0}, {"rope": 1}, {"level_every": 1}])
def test_cached_generation_equals_one_pass(patchify: bool, options: dict[str, int]) -> None:
    model, texts = tiny(patchify=patchify, **options), some_texts(3, 7)
    made = generate(model, texts, SHAPES)
    for step, (stepwise, whole) in enumerate(
        zip(made.logits, forced(model, texts, made.codes, SHAPES), strict=True)
    ):
        torch.testing.assert_close(stepwise, whole, atol=1e-4, rtol=1e-4, msg=f"map {step}")


def test_options_act() -> None:
    texts, codes = some_texts(3), [torch.zeros(1, area((shape,)), dtype=torch.long) for shape in SHAPES]
    plain = forced(tiny(), texts, codes, SHAPES)[-1]
    for options in ({"rope": 0}, {"rope": 1}, {"level_every": 1}):
        assert not torch.allclose(forced(tiny(**options), texts, codes, SHAPES)[-1], plain, atol=1e-3)


def test_guidance_is_a_combination_of_two_passes(patchify: bool) -> None:
    model, texts = tiny(patchify=patchify), some_texts(3, 7)
    scales = (1.0, 2.0, 3.0, 1.5)
    habits = Habits(sampler=Sampler(top_p=0.9), noise=PositionNoise([1, 2]))
    made = generate(model, texts, SHAPES, PerStep(scales), habits=habits)
    conditional = forced(model, texts, made.codes, SHAPES)
    null = forced(model, learnt(model, texts), made.codes, SHAPES)
    for step, scale in enumerate(scales):
        want = scale * conditional[step] + (1 - scale) * null[step]
        torch.testing.assert_close(made.logits[step], want, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="4 steps needs as many scales, got 2"):
        generate(model, texts, SHAPES, PerStep((1.0, 2.0)))


def test_a_negative_text_takes_the_place_of_the_learnt_one() -> None:
    model, texts, negative = tiny(), some_texts(3, 7), some_texts(5, 2, seed=1)
    made = generate(model, texts, SHAPES, Constant(3.0), negative=negative)
    conditional = forced(model, texts, made.codes, SHAPES)
    null = forced(model, negative, made.codes, SHAPES)
    for step, logits in enumerate(made.logits):
        torch.testing.assert_close(logits, 3 * conditional[step] - 2 * null[step], atol=1e-4, rtol=1e-4)


def test_guidance_after_the_last_layer_reads_one_branch() -> None:
    """Both branches hold the same states then, modulated by the conditional text alone."""
    model, texts = tiny(), some_texts(3)
    guidance = LayerGuidance((3.0,) * 4, after=1)
    made = generate(model, texts, SHAPES, guidance, habits=Habits(parts=(guidance,)))
    states: list[Tensor] = []
    handle = model.blocks[1].register_forward_hook(lambda module, given, output: states.append(output))
    forced(model, texts, made.codes, SHAPES)
    forced(model, learnt(model, texts), made.codes, SHAPES)
    handle.remove()
    condition = model.condition(texts)
    mixed = torch.lerp(states[1], states[0], 3.0)
    hidden = torch.nn.functional.layer_norm(mixed, (64,), eps=1e-6) * condition.head[0] + condition.head[1]
    want = model.head.logits(hidden).flatten(-2)
    torch.testing.assert_close(torch.cat(made.logits, dim=1), want, atol=2e-4, rtol=1e-4)


def test_layer_guidance_of_scale_one_is_off() -> None:
    model, texts = tiny(), some_texts(3)
    off = LayerGuidance((1.0,) * 4, after=0)
    rows: list[int] = []
    model.blocks[0].register_forward_hook(lambda module, given, output: rows.append(len(output)))
    made = generate(model, texts, SHAPES, off)
    assert set(rows) == {1}
    plain = generate(model, texts, SHAPES)
    assert all(torch.equal(a, b) for a, b in zip(made.logits, plain.logits, strict=True))


@pytest.mark.parametrize("guidance", [None, Constant(2.0)])
def test_rows_do_not_depend_on_the_batch(guidance: Guidance | None) -> None:
    """Texts of other lengths beside a text change nothing."""
    model, texts, sampler = tiny(), some_texts(2, 9, 5), Sampler(temperature=0.7)
    every = Habits(sampler=sampler, noise=PositionNoise([4, 5, 6]))
    both = generate(model, texts, SHAPES, guidance, habits=every)
    alone = Habits(sampler=sampler, noise=PositionNoise([6]))
    own = generate(model, texts[2:], SHAPES, guidance, habits=alone)
    assert all(torch.equal(b[2:], a) for b, a in zip(both.codes, own.codes, strict=True))


def test_a_later_code_changes_no_earlier_logits() -> None:
    model, texts = tiny(), some_texts(4)
    codes = [torch.randint(16, (1, area((shape,)))) for shape in SHAPES]
    before = forced(model, texts, codes, SHAPES)
    for step in range(len(SHAPES)):
        changed = [ids.clone() for ids in codes]
        changed[step] = 15 - changed[step]
        after = forced(model, texts, changed, SHAPES)
        assert all(torch.equal(before[earlier], after[earlier]) for earlier in range(step + 1))
        if step + 1 < len(SHAPES):
            assert not torch.equal(before[step + 1], after[step + 1])


def test_texts_are_read_once_an_image() -> None:
    model, texts = tiny(), some_texts(3, 4)
    read: list[int] = []
    model.blocks[0].ca.mat_kv.register_forward_hook(lambda *_: read.append(1))
    generate(model, texts, SHAPES, Constant(2.0))
    assert len(read) == 2


def test_a_session_draws_again_and_hears_another_text() -> None:
    model, (one, other) = tiny(), some_texts(3, 5)
    session = Session(model)
    feed(session, model, [one])
    options = {"order": model.order, "sampler": GREEDY, "guidance": Constant(2.0)}
    first, again = (session.draw(SHAPES, **options).codes for _ in range(2))
    assert torch.equal(first, again)
    feed(session, model, [other])
    second = session.draw(SHAPES, **options).codes
    want = torch.cat(generate(model, [other], SHAPES, Constant(2.0)).codes, dim=1)
    assert torch.equal(second, want)
    assert not torch.equal(second, first)


class Watching:
    """A policy that keeps everything and looks at the queries of the first layer."""

    keeps_writes, by_step = False, True

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def stays(self, held: Held) -> None:
        if held.queries is not None and held.layer == 0:
            self.seen.append(held.queries)


def test_raw_queries_are_those_of_the_bare_matrix() -> None:
    texts, found = some_texts(3), {}
    for raw in (False, True):
        model, policy, given = tiny(raw_queries=raw), Watching(), []
        model.blocks[0].sa.register_forward_pre_hook(lambda module, arguments, to=given: to.append(arguments))
        made = generate(model, texts, SHAPES, habits=Habits(policy=policy))
        found[raw] = made.logits
        assert len(policy.seen) == len(SHAPES)
        for queries, (x, rotation, *_) in zip(policy.seen, given, strict=True):
            weight, bias = model.blocks[0].sa.mat_qkv.weight[:64], model.blocks[0].sa.q_bias
            bare = (x @ weight.T).unflatten(-1, (4, 16)).transpose(1, 2)
            true = (x @ weight.T + bias).unflatten(-1, (4, 16)).transpose(1, 2)
            scale = model.blocks[0].sa.scale_mul_1H11.exp()
            true = rotate(torch.nn.functional.normalize(true, dim=-1) * scale, *rotation)
            true = true * 16**0.5  # shown so that scores over the root of the width are those that attended
            torch.testing.assert_close(queries, bare if raw else true, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(found[False], found[True], strict=True))


def test_bfloat16_stays_close() -> None:
    model, texts = tiny(), some_texts(3, 5)
    made = generate(model, texts, SHAPES)
    exact = torch.cat(made.logits, dim=1)
    model.to(torch.bfloat16)
    rough = torch.cat(forced(model, texts, made.codes, SHAPES), dim=1)
    assert rough.dtype == torch.float32
    assert (rough - exact).norm() < 0.08 * exact.norm()


# Parts ----------------------------------------------------------------------------------------------------


def test_schedules() -> None:
    assert area(schedule()) == 10_521
    assert schedule(1.0, "0.06M")[-1] == (16, 16)
    assert schedule(0.58, "1M")[-1] == (48, 84)
    assert len(schedules()) == 15
    assert max(max(shape) for shapes in schedules().values() for shape in shapes) == LONGEST_SIDE
    for shapes in schedules().values():
        assert all(full_grid(shapes[:count]) == shapes[-1] for count in (7, 10, 12, 13))
    with pytest.raises(ValueError, match="unknown resolution '2M'"):
        schedule(1.0, "2M")


def test_rotations_of_a_place_hardly_depend_on_the_map() -> None:
    shapes = schedule(1.5, "0.06M")
    cos, sin = rotations(shapes, 16)
    torch.testing.assert_close(cos**2 + sin**2, torch.ones_like(cos))
    starts = [area(shapes[:number]) for number in range(len(shapes))]
    corners = cos[[*starts]]
    assert torch.equal(corners, torch.ones_like(corners))
    middle = [start + (h // 2) * w + w // 2 for start, (h, w) in zip(starts, shapes, strict=True)][3:]
    assert (cos[middle][:, 1:4] - cos[middle[-1]][1:4]).abs().max() < 0.5
    rows, columns = 78 / 21, 52 / 14  # row 3 and column 5 of the last map, to cells of 78 x 52
    place = starts[-1] + 3 * 14 + 5
    frequencies = [10_000 ** (-i / 8) for i in (0, 2, 4, 6)]
    angles = [round(3 * rows) * f for f in frequencies] + [round(5 * columns) * f for f in frequencies]
    torch.testing.assert_close(sin[place], torch.tensor([math.sin(angle) for angle in angles]))


def test_rotating_keeps_lengths_and_shifts_pairs() -> None:
    x = torch.randn(2, 3, 14, 16)
    cos, sin = rotations(((2, 7),), 16)
    turned = rotate(x, cos, sin)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    complex_x = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * torch.complex(cos, sin)
    torch.testing.assert_close(turned, torch.view_as_real(complex_x).flatten(-2))


def test_labels_approach_the_latent(patchify: bool) -> None:
    """The first map says the signs of means; every map brings the sum nearer to the latent."""
    grid = BitGrid(4, 2 if patchify else 1)
    latent = torch.randn(2, 4, *grid.cells(SHAPES[-1]))
    labels = grid.labels(latent, SHAPES)
    means = torch.nn.functional.adaptive_avg_pool2d(latent, grid.cells((1, 1)))
    assert torch.equal(labels[:, :1], grid.to_tokens((means > 0).float()).long())
    summed, fed = grid.summed(grid.vectors(labels), SHAPES), grid.transformer_inputs(labels, SHAPES)
    last = grid.to_map(fed[:, -area(SHAPES[-1:]) :], SHAPES[-1])  # the sum of all maps but the last
    errors = [float((x - latent).norm()) for x in (summed, last, torch.zeros_like(latent))]
    assert errors == sorted(errors)
    torch.testing.assert_close(grid.to_map(grid.to_tokens(latent), SHAPES[-1]), latent)
    with pytest.raises(ValueError, match=r"need a latent \[B, 4"):
        grid.labels(latent[..., :-1], SHAPES)


def test_tokens_of_four_cells_hold_channel_row_column() -> None:
    latent = torch.arange(8.0).view(1, 2, 2, 2)
    assert BitGrid(2, 2).to_tokens(latent).tolist() == [[[0, 1, 2, 3, 4, 5, 6, 7]]]


def test_decoder_shapes_and_bytes() -> None:
    decoder = InfinityDecoder(DecoderConfig(latent=4, patch=4, width=24, multipliers=(1, 2, 2)))
    images = decoder(torch.randn(1, 4, 2, 3))
    assert images.shape == (1, 3, 8, 12)
    colours = torch.tensor([-1.0, 0.0, 0.999]).view(1, 3, 1, 1)
    assert to_bytes(colours).flatten().tolist() == [254, 127, 0]
    with pytest.raises(ValueError, match="neither 32 nor 24"):
        DecoderConfig(width=20)
    with pytest.raises(ValueError, match="power of two"):
        DecoderConfig(patch=6)


# Training -------------------------------------------------------------------------------------------------


def test_weights_of_the_loss() -> None:
    shapes: Shapes = ((1, 1), (2, 2))
    assert token_weights(shapes, False).tolist() == pytest.approx([0.2] * 5)
    assert token_weights(shapes, True).tolist() == pytest.approx([1 / 3] + [1 / 6] * 4)
    logits, bits = torch.zeros(2, 5, 3, 2), torch.ones(2, 5, 3, dtype=torch.long)
    assert float(training_loss(logits, bits, shapes)) == pytest.approx(math.log(2))


def test_training_fits_a_few_images(patchify: bool) -> None:
    shapes: Shapes = ((1, 1), (2, 2))
    model = tiny(patchify=patchify, path=0.1).train()
    texts = some_texts(3, 5, 2, 4)
    latent = torch.randn(4, 4, *model.grid.cells(shapes[-1]), generator=torch.Generator().manual_seed(1))
    labels = model.grid.labels(latent, shapes)
    vectors = model.grid.transformer_inputs(labels, shapes)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        loss = training_loss(model(texts, vectors, shapes), labels, shapes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {"text.cfg_uncond"}  # used where texts are dropped
    assert float(loss.detach()) < 0.3
    made = generate(model.eval(), texts, shapes)
    assert (model.head.to_symbols(made.codes[0]) == labels[:, :1]).float().mean() > 0.9


def test_texts_are_dropped_at_the_rate() -> None:
    model, texts = tiny(), some_texts(*[3] * 2000)
    dropped = model.text.dropped(texts, 0.25, torch.Generator().manual_seed(0))
    gone = [not torch.equal(text, old) for text, old in zip(dropped, texts, strict=True)]
    assert sum(gone) / len(gone) == pytest.approx(0.25, abs=0.04)
    assert torch.equal(dropped[gone.index(True)], model.text.cfg_uncond[:3])


# Bad input ------------------------------------------------------------------------------------------------


def test_bad_requests_are_refused() -> None:
    model = tiny()
    with pytest.raises(ValueError, match=r"features \[n, 128\] with n from 1 to 16, got \(17, 128\)"):
        generate(model, some_texts(17), SHAPES)
    with pytest.raises(ValueError, match=r"need input vectors \(1, 26, 4\), got \(1, 25, 4\)"):
        model(some_texts(3), torch.zeros(1, 25, 4), SHAPES)
    with pytest.raises(ValueError, match="knows 15 maps, got 16"):
        model.positions(((1, 1),) * 16)
    session = Session(model)
    with pytest.raises(ValueError, match="no text was given"):
        session.draw(SHAPES, order="residual")
    session.feed(model.prompt(3), values={"text": some_texts(3)[0]})
    with pytest.raises(ValueError, match="'raster' is not in the vocabulary; it has residual"):
        session.draw([3], order="raster")
    with pytest.raises(ValueError, match=r"images only|nothing has been read"):
        list(session.text())
    with pytest.raises(ValueError, match="placeholders"):
        Session(model).feed(model.prompt(3))
    both = Session(model, rows=2)
    words = model.vocabulary
    with pytest.raises(ValueError, match="given their texts together"):
        both.feed([model.prompt(2), [words.begin, words.user]], values={"text": some_texts(2)[0]})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cell_bits": 16, "patchify": True}, "64 bits does not fit"),
        ({"width": 60}, "width 60 is not a multiple"),
        ({"rope": 3}, "rope must be 0, 1 or 2"),
        ({"text_width": 64}, "gives 0 pooling heads"),
        ({"depth": 0}, "depth must be at least 1"),
    ],
)
def test_configs_that_cannot_be_are_refused(options: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(InfinityConfig(), **options)


def test_unknown_options_are_named() -> None:
    with pytest.raises(ValueError, match="unknown option 'rotary'"):
        config_from({"rotary": 1}, 4)
    with pytest.raises(ValueError, match="lack text_channels"):
        config_from({"depth": 1}, 4)
    with pytest.raises(ValueError, match="unknown size '3b'"):
        released("3b")
    with pytest.raises(ValueError, match="zero_k_bias to be zero"):
        renamed({"blocks.0.sa.zero_k_bias": torch.ones(2)}, 1)
