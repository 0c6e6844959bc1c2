"""Infinity's tokenizer and self-correction: against the published code's outputs, and against themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unified.checkpoints import infinity_tokenizer_verify, infinity_verify
from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_bits import BitGrid
from unified.checkpoints.infinity_config import InfinityConfig
from unified.checkpoints.infinity_correction import SelfCorrection, example
from unified.checkpoints.infinity_generation import draw, generate
from unified.checkpoints.infinity_spherical import entropies, quantise, unit
from unified.checkpoints.infinity_tokenizer import (
    RELEASED,
    InfinityTokenizer,
    InfinityTokenizerConfig,
    load,
    released,
)
from unified.checkpoints.state_dict import read_weights
from unified.decoding.guidance import Constant
from unified.orders.shapes import Shapes

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
PACK = GOLDEN / "infinity_bsq"
needs_golden = pytest.mark.skipif(
    not PACK.is_dir(), reason="the reference vectors (../shared/golden) are absent"
)
SHAPES: Shapes = ((1, 1), (2, 2), (3, 2), (4, 4))


def tiny(**options: object) -> InfinityTokenizer:
    torch.manual_seed(0)
    return InfinityTokenizer(InfinityTokenizerConfig(**options)).eval()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def published(tokenizer: InfinityTokenizer) -> dict[str, Tensor]:
    """Its weights under the published names."""
    found = {}
    for name, value in tokenizer.state_dict().items():
        layer, last = name.rsplit(".", 1)
        found[f"{layer}.{'norm' if 'norm' in layer.split('.')[-1] else 'conv'}.{last}"] = value
    return found


# Against the published code -------------------------------------------------------------------------------


@needs_golden
def test_every_published_output_is_recomputed() -> None:
    checks = list(infinity_tokenizer_verify.verify(PACK))
    assert [str(check) for check in checks if check.ok is False] == []
    assert sorted(check.name for check in checks) == sorted(load_file(PACK / "io.safetensors"))
    assert [check.name for check in checks if check.ok is None] == ["image"]


@needs_golden
def test_names_are_the_published_ones() -> None:
    stored = load_file(PACK / "weights.safetensors")
    ours = published(infinity_tokenizer_verify.load(PACK))
    assert ours.keys() == {name for name in stored if not name.endswith("lfq.mask")}
    assert all(torch.equal(stored[name], value) for name, value in ours.items())


@needs_golden
@pytest.mark.parametrize(
    ("weight", "failing"),
    [
        ("encoder.down.2.block.0.norm2.norm.weight", "latent"),
        ("decoder.up.3.upsample.conv.conv.bias", "decoded_from_bits"),
    ],
)
def test_one_changed_weight_fails(weight: str, failing: str, tmp_path: Path) -> None:
    folder = copied(tmp_path, weight, 0.5)
    failed = {check.name for check in infinity_tokenizer_verify.verify(folder) if check.ok is False}
    assert failing in failed
    assert "bsc.flip_mask.1" not in failed


@needs_golden
def test_another_order_of_bits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected quantizer.lfq.mask to be 128, \.\.\., 2, 1"):
        infinity_tokenizer_verify.load(copied(tmp_path, "quantizer.lfq.mask", 1))


def copied(to: Path, weight: str, more: float) -> Path:
    """The folder with one value of one weight changed."""
    for name in ("config.json", "io.safetensors"):
        (to / name).write_bytes((PACK / name).read_bytes())
    state = load_file(PACK / "weights.safetensors")
    state[weight].view(-1)[0] += more
    save_file(state, to / "weights.safetensors")
    return to


@needs_golden
@pytest.mark.parametrize("case", ["infinity_transformer", "infinity_transformer_patchify"])
def test_what_the_transformer_draws_is_the_published_image(case: str) -> None:
    """Of its own bits, by the decoder of a tokenizer that is joined."""
    folder = GOLDEN / case
    model, decoder = infinity_verify.load(folder), infinity_verify.load_decoder(folder)
    stored = load_file(folder / "io.safetensors")
    shapes = tuple((h, w) for _, h, w in stored["scale_schedule"].tolist())
    tokenizer = InfinityTokenizer(_config(folder, model))
    tokenizer.decoder.load_state_dict(decoder.state_dict())
    model.join(tokenizer.eval())
    texts, _ = infinity_verify.read_texts(folder)
    image = draw(model, texts[:1], shapes, Constant(3.0))
    got = (image * 255).permute(0, 2, 3, 1).flip(3)
    want = stored["greedy_cfg.image_uint8_bgr"].float()
    assert float((got - want).abs().max()) <= 1.01  # it is truncated


def _config(folder: Path, model: Infinity) -> InfinityTokenizerConfig:
    options = infinity_verify.read_config(folder)["vae"]
    levels = tuple(options["decoder_ch_mult"])
    return InfinityTokenizerConfig(
        bits=options["codebook_dim"],
        patch=options["patch_size"],
        width=options["base_ch"],
        blocks=options["num_res_blocks"],
        encoder=levels,
        decoder=levels,
        patchify=model.config.patchify,
    )


def test_released_sizes() -> None:
    for bits in RELEASED:
        with torch.device("meta"):
            tokenizer = InfinityTokenizer(released(bits))
        assert tokenizer.stride == 16
        assert tokenizer.codes == 2 ** (56 if bits == 14 else bits)
    with pytest.raises(ValueError, match="16, 18, 20, 24, 32, 64 bits, got 8"):
        released(8)


# Against itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"bits": 32}, {"bits": 14, "patchify": True}])
def test_ids_of_many_bits_say_what_the_bits_do(options: dict[str, int]) -> None:
    """Up to 2**56 codes, none in a table."""
    tokenizer = tiny(**options)
    images = torch.rand(2, 3, 4 * tokenizer.stride, 4 * tokenizer.stride, generator=rng()) * 2 - 1
    ids, bits = tokenizer.encode(images, SHAPES), tokenizer.encode_bits(images, SHAPES)
    assert [tuple(item.shape) for item in ids] == [(2, 1), (2, 4), (2, 6), (2, 16)]
    assert int(torch.cat(ids, dim=1).max()) > 2**20
    decoded = tokenizer.decode(ids, SHAPES)
    assert decoded.shape == images.shape
    assert torch.equal(decoded, tokenizer.decode_bits(bits, SHAPES))
    fed = tokenizer.transformer_inputs(ids, SHAPES)
    assert torch.equal(fed, tokenizer.grid.transformer_inputs(bits, SHAPES))


def test_tokens_of_64_bits_are_coded_as_bits() -> None:
    tokenizer = tiny(bits=64)
    images = torch.rand(1, 3, 16, 16, generator=rng()) * 2 - 1
    bits = tokenizer.encode_bits(images)
    assert bits.shape == (1, 16, 64)
    assert tokenizer.decode_bits(bits, [(4, 4)]).shape == images.shape
    with pytest.raises(ValueError, match="64 bits does not fit an id: use encode_bits"):
        tokenizer.encode(images)


def test_the_gradient_passes_straight_through_to_unit_vectors() -> None:
    latent = torch.randn(2, 6, 3, 3, generator=rng()).requires_grad_()
    weight = torch.randn(2, 6, 3, 3, generator=rng(1))
    codes = quantise(latent)
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(2, 3, 3))
    (got,) = torch.autograd.grad((codes * weight).sum(), latent)
    (want,) = torch.autograd.grad((unit(latent) * weight).sum(), latent)
    assert torch.equal(got, want)
    assert (quantise(torch.zeros(1, 4, 1, 1)) == -0.5).all()


def test_entropies_of_sure_and_of_unsure_bits() -> None:
    sure = entropies(torch.tensor([[1.0, -1.0], [1.0, 1.0]]) / 2**0.5)
    log2 = torch.tensor(2.0).log()
    torch.testing.assert_close(sure.each, torch.tensor(0.0))
    torch.testing.assert_close(sure.mean, log2)  # the second bit is 0 as often as 1
    unsure = entropies(torch.zeros(3, 5))
    torch.testing.assert_close(unsure.each, 5 * log2)


# Self-correction ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 2])
def test_later_labels_repair_what_was_flipped(side: int) -> None:
    grid = BitGrid(4, side)
    latent = torch.randn(3, 4, *grid.cells(SHAPES[-1]), generator=rng())
    clean = example(grid, latent, SHAPES)
    flips = torch.zeros_like(clean.labels, dtype=torch.bool)
    flips[:, 1:5] = torch.rand(3, 4, grid.token_bits, generator=rng(1)) < 0.3
    made = example(grid, latent, SHAPES, flips)
    assert torch.equal(made.labels[:, :5], clean.labels[:, :5])  # of its own map a flip is no label
    assert not torch.equal(made.labels[:, 5:], clean.labels[:, 5:])
    assert torch.equal(made.vectors[:, :4], clean.vectors[:, :4])
    fed = grid.vectors(made.labels ^ flips)

    def error(vectors: Tensor) -> float:
        return float((latent - grid.summed(vectors, SHAPES)).norm())

    assert error(fed) < error(grid.vectors(clean.labels ^ flips))


def test_flips_have_the_rates_that_are_drawn() -> None:
    grid, shapes = BitGrid(16), ((8, 8), (16, 16), (16, 16))
    flips = SelfCorrection(maps=2, strength=0.3).flips(grid, shapes, 4, rng(3))
    rates = [float(part.float().mean()) for part in flips.split([64, 256, 256], dim=1)]
    percents = torch.randint(31, (2,), generator=rng(3)).tolist()
    assert rates == pytest.approx([percents[0] / 100, percents[1] / 100, 0], abs=0.02)
    assert min(percents) > 0
    assert not SelfCorrection(strength=0.0).flips(grid, shapes, 1, rng()).any()
    again = SelfCorrection(maps=2, strength=0.3).flips(grid, shapes, 4, rng(3))
    assert torch.equal(flips, again)
    with pytest.raises(ValueError, match=r"strength in \[0, 1\]"):
        SelfCorrection(strength=1.5)


# With the transformer -------------------------------------------------------------------------------------


def test_a_text_becomes_an_image() -> None:
    torch.manual_seed(0)
    model = Infinity(InfinityConfig(cell_bits=32)).eval()
    texts = [torch.randn(3, 128, generator=rng()), torch.randn(5, 128, generator=rng(1))]
    with pytest.raises(ValueError, match="join one to the transformer"):
        draw(model, texts, SHAPES)
    tokenizer = tiny(bits=32)
    model.join(tokenizer)
    assert not any("tokenizer" in name for name in model.state_dict())
    images = draw(model, texts, SHAPES)
    assert images.shape == (2, 3, 16, 16)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    made = generate(model, texts, SHAPES)
    assert torch.equal(model.image(made.codes, SHAPES), images)
    torch.testing.assert_close(images * 2 - 1, tokenizer.decode(made.codes, SHAPES))
    with pytest.raises(ValueError, match=r"bits=32.*bits=16"):
        model.join(tiny(bits=16))


# Bad input ------------------------------------------------------------------------------------------------


def test_weights_and_images_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tokenizer = tiny()
    state = published(tokenizer)
    again = load(tokenizer.config, {"vae": {**state, "discriminator.main.weight": torch.zeros(1)}})
    assert all(torch.equal(value, tokenizer.state_dict()[name]) for name, value in again.state_dict().items())
    with pytest.raises(ValueError, match="weights do not fit"):
        load(InfinityTokenizerConfig(bits=4), state)
    with pytest.raises(ValueError, match="multiples of 4, got 16 x 18"):
        tokenizer.encode(torch.zeros(1, 3, 16, 18))
    with pytest.raises(ValueError, match=r"need a latent \[B, 8, 4, 4\]"):
        tokenizer.encode(torch.zeros(1, 3, 16, 8), SHAPES)
    with pytest.raises(ValueError, match=r"need bits \[B, 27, 8\], got \(1, 26, 8\)"):
        tokenizer.decode_bits(torch.zeros(1, 26, 8, dtype=torch.long), SHAPES)
    with pytest.raises(ValueError, match="power of two"):
        InfinityTokenizerConfig(patch=6)
    with pytest.raises(ValueError, match="at least one bit"):
        InfinityTokenizerConfig(bits=0)
    torch.save({"vae": {}}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match=r"empty.pth"):
        read_weights(tmp_path / "empty.pth")
