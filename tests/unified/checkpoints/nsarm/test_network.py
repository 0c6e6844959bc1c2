"""NSARM: against the published code's outputs, and labels, network and runs of other sizes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_bits import BitGrid
from unified.checkpoints.infinity_config import InfinityConfig
from unified.checkpoints.infinity_correction import SelfCorrection, example
from unified.checkpoints.infinity_forks import from_first_row
from unified.checkpoints.infinity_generation import generate
from unified.checkpoints.infinity_published import token_weights, training_loss
from unified.checkpoints.infinity_rope import rotations
from unified.checkpoints.nsarm import verify as nsarm_verify
from unified.checkpoints.nsarm.network import Transformation, TransformationConfig, as_map, load
from unified.checkpoints.nsarm.sampling import codes_of, upscale
from unified.decoding.guidance import Constant

sys.path.insert(0, str(Path(__file__).parents[3]))
from golden_folders import GOLDEN, copied, differing, left_out, needs, randomised, refused, spoilt, without

SHAPES = ((1, 1), (2, 2), (3, 3), (4, 4))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny(**options: object) -> Infinity:
    return randomised(Infinity(InfinityConfig(cell_bits=3, **options)))


def network() -> Transformation:
    config = TransformationConfig(
        channels=3,
        grid=(4, 6),
        trunk=(2, 4),
        shapes=((1, 1), (2, 3)),
        widths=(4, 6),
        layers=(1, 2),
        heads=(2, 3),
    )
    return randomised(Transformation(config))


# Against the published code -------------------------------------------------------------------------------


@needs("nsarm", "infinity_transformer")
def test_every_published_output_is_recomputed() -> None:
    found = left_out("nsarm")
    assert set(found.values()) == {"not compared: an input"}
    assert {name.split(".")[-1].rstrip("012") for name in found} == {"flip", "pred", "raw", "latent", "text"}


@needs("nsarm", "infinity_transformer")
def test_changed_outputs_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "infinity_transformer").symlink_to(GOLDEN / "infinity_transformer")
    names = ("plain.labels", "noise.inputs", "t.out1", "inf.greedy.logits", "inf.sampled.sampled_bits")
    assert differing(copied("nsarm", tmp_path, io=lambda stored: spoilt(stored, *names))) == set(names)


@needs("nsarm")
def test_without_the_weights_of_infinity_runs_say_what_they_need(tmp_path: Path) -> None:
    checks = {check.name: check for check in nsarm_verify.verify(copied("nsarm", tmp_path))}
    reason = "not compared: needs the folder infinity_transformer beside this one"
    assert checks["inf.greedy.logits"].detail == reason
    assert checks["inf.text"].detail == "not compared: an input"
    assert checks["t.out0"].ok


@needs("nsarm")
@pytest.mark.parametrize("name", ["plain.raw", "noise.pred1", "t.latent"])
def test_a_missing_input_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert name in refused(copied("nsarm", tmp_path, io=lambda stored: stored.pop(name)), capsys)


@needs("nsarm")
@pytest.mark.parametrize(
    "path", [("labels",), ("labels", "plain", "dim"), ("network", "heads"), ("inference", "tau")]
)
def test_a_missing_option_is_named(
    path: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied("nsarm", tmp_path, config=lambda options: without(options, *path))
    assert path[-1] in refused(folder, capsys)


@needs("nsarm")
def test_weights_that_lack_a_part_are_one_line() -> None:
    state = load_file(GOLDEN / "nsarm" / "weights.safetensors")
    state = {name.removeprefix("map_transformer."): value for name, value in state.items()}
    options = {"output_sizes": [1, 2, 4], "heads": [4, 4, 4]}
    with pytest.raises(ValueError, match=r"1 of .* weights are missing"):
        load(options, {n: v for n, v in state.items() if n != "output_projs.1.0.bias"})
    with pytest.raises(ValueError, match="lack heads"):
        load({"output_sizes": [1]}, state)


# Labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 2])
def test_labels_after_given_maps_repair_what_those_got_wrong(side: int) -> None:
    """What is summed comes as near to the latent, whatever the first maps say, and nearer than with labels
    that know nothing of them."""
    grid = BitGrid(3, side)
    cells = [grid.cells(shape) for shape in SHAPES]
    latent = 0.4 * drawn(2, 3, *cells[-1])
    given = [drawn(2, 3, *cell, seed=3) for cell in cells[:2]]
    plain, repaired = grid.labels(latent, SHAPES), grid.labels(latent, SHAPES, given=given)
    for number, part in enumerate(given):
        own = slice(sum(h * w for h, w in SHAPES[:number]), sum(h * w for h, w in SHAPES[: number + 1]))
        assert torch.equal(repaired[:, own], grid.to_tokens((part > 0).float()).long())
    mixed = torch.cat([repaired[:, :5], plain[:, 5:]], dim=1)
    errors = [
        (grid.summed(grid.vectors(bits), SHAPES) - latent).square().mean() for bits in (repaired, mixed)
    ]
    assert errors[0] < errors[1]


def test_maps_given_as_they_are_change_no_label() -> None:
    grid, latent = BitGrid(3), drawn(2, 3, 4, 4)
    plain = grid.labels(latent, SHAPES)
    parts = zip(plain.split([1, 4, 9, 16], 1), SHAPES, strict=True)
    own = [grid.to_map(part.float() - 0.5, shape) for part, shape in parts]
    assert torch.equal(grid.labels(latent, SHAPES, given=own[:3]), plain)
    assert torch.equal(grid.labels(latent, SHAPES, given=[*own[:3], -own[3]]), plain)  # never the last


def test_bits_of_given_maps_are_flipped_in_what_is_fed_alone() -> None:
    grid, latent = BitGrid(3), drawn(2, 3, 4, 4)
    given = [drawn(2, 3, 1, 1, seed=4)]
    flips = SelfCorrection(maps=2, strength=1.0).flips(grid, SHAPES, 2, torch.Generator().manual_seed(3))
    made = example(grid, latent, SHAPES, flips, given)
    assert torch.equal(made.labels[:, 0], (given[0].flatten(1) > 0).long())
    assert torch.equal(made.vectors, grid.transformer_inputs(made.labels ^ flips, SHAPES))


def test_a_given_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a given map must have shape \(2, 3, 1, 1\), got \(2, 3, 2, 2\)"):
        BitGrid(3).labels(drawn(2, 3, 4, 4), SHAPES, given=[drawn(2, 3, 2, 2)])


def test_the_loss_leaves_given_maps_out() -> None:
    logits, bits = drawn(2, 30, 3, 2), (drawn(2, 30, 3) > 0).long()
    changed = torch.cat([1 - bits[:, :5], bits[:, 5:]], dim=1)
    losses = [training_loss(logits, given, SHAPES, given=2) for given in (bits, changed)]
    assert torch.equal(*losses)
    plain = F.cross_entropy(logits[:, 5:].flatten(0, 2), bits[:, 5:].flatten())
    assert torch.allclose(training_loss(logits, bits, SHAPES, by_scale=False, given=2), plain)
    assert token_weights(SHAPES, True, 3).count_nonzero() == 16
    with pytest.raises(ValueError, match="from 0 to 3 can be given, got 4"):
        token_weights(SHAPES, True, 4)


# The network ----------------------------------------------------------------------------------------------


def test_the_network_is_its_parts_written_out() -> None:
    model, latent = network(), drawn(2, 3, 4, 6)
    x = latent
    for n in (0, 3, 6):
        norm, x = model.feature_extractor[n + 1], model.feature_extractor[n](x)
        x = F.gelu(F.layer_norm(x, x.shape[1:], norm.weight, norm.bias))
    tokens = F.adaptive_avg_pool2d(model.feature_transforms[1](x), (2, 3)).flatten(2).mT
    layer = model.transformers[1].layers
    for one in layer:
        attended = one.self_attn(tokens, tokens, tokens, need_weights=False)[0]
        tokens = one.norm1(tokens + attended)
        tokens = one.norm2(tokens + one.linear2(one.linear1(tokens).relu()))
    with torch.no_grad():
        assert torch.allclose(model(latent)[1], model.output_projs[1](tokens), atol=1e-5)


def test_tokens_are_read_as_maps_in_the_order_of_memory() -> None:
    tokens = torch.arange(12.0).view(1, 6, 2)
    found = as_map(tokens, (2, 3))
    assert found[0, 0].flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert found[0, 1].flatten().tolist() == [6, 7, 8, 9, 10, 11]


def test_published_names_give_the_same_network_back() -> None:
    model = network()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="2 maps need as many heads"):
        TransformationConfig(shapes=((1, 1), (2, 2)), widths=(4, 4), layers=(1, 1), heads=(1,))
    again = load({"output_sizes": [1, 2], "heads": [2, 3]}, state)
    latent = drawn(1, 3, 4, 6)
    with torch.no_grad():
        assert torch.equal(again(latent)[0], model(latent)[0])
    with pytest.raises(ValueError, match=r"takes latents of \(3, 4, 6\), got \(3, 4, 4\)"):
        model(drawn(1, 3, 4, 4))


# Super-resolution -----------------------------------------------------------------------------------------


def texts() -> list[Tensor]:
    return [drawn(5, 128), drawn(3, 128, seed=1)]


def test_without_given_maps_nothing_changes() -> None:
    model = tiny()
    plain = generate(model, texts(), SHAPES, Constant(2.0))
    same = upscale(model, texts(), SHAPES, [], Constant(2.0), as_released=False)
    assert torch.equal(torch.cat(plain.logits, dim=1), torch.cat(same.logits, dim=1))


@pytest.mark.parametrize("as_released", [False, True])
@pytest.mark.parametrize("options", [{}, {"patchify": True}])
def test_what_follows_given_maps_equals_teacher_forcing(
    as_released: bool, options: dict[str, object]
) -> None:
    model = tiny(**options)
    given = [drawn(2, 3, *model.grid.cells(shape), seed=7) for shape in SHAPES[:2]]
    made = upscale(model, texts(), SHAPES, given, as_released=as_released)
    assert torch.equal(made.codes[1], codes_of(model, given[1]))
    feed = model.grid.feed(SHAPES, by_area=as_released)
    vectors = feed.inputs(torch.cat(made.vectors, dim=1), feed.later)
    if as_released:
        table = rotations(SHAPES, model.config.width // model.config.heads)
        model.rotation = lambda shapes: from_first_row(table, shapes)  # type: ignore[method-assign]
    with torch.no_grad():
        want = model(texts(), vectors, SHAPES)
    assert torch.allclose(torch.cat(made.logits, dim=1), want.flatten(-2), atol=1e-4)


def test_the_model_itself_keeps_its_class() -> None:
    model = tiny()
    upscale(model, texts(), SHAPES, [])
    assert type(model) is Infinity


def test_given_maps_of_another_number_of_rows_are_refused() -> None:
    model = tiny()
    with pytest.raises(ValueError, match=r"map 0 needs codes \(2, 1\), got \(1, 1\)"):
        upscale(model, texts(), SHAPES, [drawn(1, 3, 1, 1)])
