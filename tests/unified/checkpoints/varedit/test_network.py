"""VAREdit: against the published code's outputs, and against itself at other sizes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unified.checkpoints.infinity_config import InfinityConfig
from unified.checkpoints.infinity_generation import Habits
from unified.checkpoints.infinity_rope import rotations
from unified.checkpoints.infinity_schedules import schedule
from unified.checkpoints.varedit.network import VAREdit, shifted, table_of
from unified.checkpoints.varedit.sampling import edit, padded_to_square
from unified.decoding.guidance import Constant
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.orders.shapes import Shapes, area

sys.path.insert(0, str(Path(__file__).parents[3]))
from golden_folders import copied, differing, left_out, needs, randomised, refused, spoilt, without

SHAPES: Shapes = ((1, 1), (2, 2), (2, 3), (3, 4))


def tiny(**options: object) -> VAREdit:
    return randomised(VAREdit(InfinityConfig(cell_bits=3, **options), SHAPES))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def texts() -> list[Tensor]:
    return [drawn(5, 128), drawn(3, 128, seed=1)]


def latent_of(model: VAREdit, rows: int = 2, seed: int = 2) -> Tensor:
    return drawn(rows, model.grid.bits, *model.grid.cells(SHAPES[-1]), seed=seed)


# Against the published code -------------------------------------------------------------------------------


@needs("varedit")
def test_every_published_output_is_recomputed() -> None:
    inputs = {"scale_schedule", "src_latent", "tgt_latent", "text.kv_compact", "text.lens", "rope_1M.rows"}
    assert left_out("varedit") == dict.fromkeys(inputs, "not compared: an input")


@needs("varedit")
def test_changed_outputs_are_noticed(tmp_path: Path) -> None:
    names = (
        "tf.logits",
        "tf.sar_out_target_head",
        "greedy_cfg.bits",
        "rope.cos",
        "src_tokens",
        "tf.loss_mean",
    )
    assert differing(copied("varedit", tmp_path, io=lambda stored: spoilt(stored, *names))) == set(names)


@needs("varedit")
@pytest.mark.parametrize(
    "name", ["src_latent", "tgt_latent", "text.lens", "text.kv_compact", "scale_schedule"]
)
def test_a_missing_input_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert name in refused(copied("varedit", tmp_path, io=lambda stored: stored.pop(name)), capsys)


@needs("varedit")
@pytest.mark.parametrize("path", [("vae",), ("vae", "codebook_dim"), ("transformer", "depth")])
def test_a_missing_option_is_named(
    path: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied("varedit", tmp_path, config=lambda options: without(options, *path))
    assert path[-1] in refused(folder, capsys)


# Against itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"patchify": True}, {"depth": 3, "level_every": 1}])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_cached_generation_equals_teacher_forcing(options: dict[str, object], scale: float) -> None:
    """Map by map with a cache, guided or not, logits are those of one pass over everything with the source in
    both branches."""
    model = tiny(**options)
    latent = latent_of(model)
    noise = Habits(sampler=Sampler(), noise=PositionNoise([0, 1]))
    made = edit(model, texts(), latent, Constant(scale), habits=noise)
    vectors = model.grid.transformer_inputs(model.head.to_symbols(torch.cat(made.codes, dim=1)), SHAPES)
    tokens = model.source_tokens(latent)
    with torch.no_grad():
        want = model(texts(), vectors, SHAPES, tokens)
        if scale != 1:
            null = [model.text.cfg_uncond[: len(text)] for text in texts()]
            want = torch.lerp(model(null, vectors, SHAPES, tokens), want, scale)
    assert torch.allclose(torch.cat(made.logits, dim=1), want.flatten(-2), atol=1e-4)


def test_what_is_written_depends_on_the_source_alone_through_its_own_row() -> None:
    model = tiny()
    latent = latent_of(model)
    other = latent.clone()
    other[1] += 1
    first, second = (edit(model, texts(), given).logits[-1] for given in (latent, other))
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[1], second[1], atol=1e-3)


def test_a_source_of_another_size_is_area_resized() -> None:
    model = tiny(patchify=True)
    large = latent_of(model).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.allclose(model.source_tokens(large), model.source_tokens(latent_of(model)), atol=1e-6)


def test_positions_run_through_the_table_of_one_megapixel() -> None:
    """At full size a source stands one grid away; at others, source and maps are rows of that grid."""
    full = schedule(1.0, "1M")
    cos, _ = table_of(full, 8)
    assert torch.equal(cos, torch.cat([shifted((64, 64), 8)[0], rotations(full, 8)[0]]))
    small = schedule(1.0, "0.06M")
    assert torch.equal(table_of(small, 8)[0], cos[: 256 + area(small)])


def test_the_loss_reaches_every_weight_that_the_source_passes() -> None:
    model = tiny()
    vectors = drawn(2, area(SHAPES) - 1, 3)
    model(texts(), vectors, SHAPES, model.source_tokens(latent_of(model))).square().mean().backward()
    assert model.word_embed.weight.grad.abs().sum() > 0
    assert model.lvl_embed.weight.grad.abs().sum(dim=1).nonzero()[:, 0].tolist() == [0, 1, 2, 3]


def test_bad_calls_are_one_line() -> None:
    model = tiny()
    with pytest.raises(ValueError, match="each row needs a source image of 12 tokens, got 4"):
        Session(model).feed(model.prompt(5, source=4), values={"text": texts()[0], "source": drawn(4, 3)})
    session = Session(model)
    session.feed(model.prompt(5), values={"text": texts()[0], "source": drawn(12, 3)})
    with pytest.raises(ValueError, match="this model edits images of the maps"):
        session.draw([1, 2], order=model.order)
    with pytest.raises(ValueError, match="needs the tokens of its source"):
        model(texts(), drawn(2, area(SHAPES) - 1, 3), SHAPES)
    with pytest.raises(ValueError, match=r"source tokens must have shape \(2, 12, 3\)"):
        model(texts(), drawn(2, area(SHAPES) - 1, 3), SHAPES, drawn(2, 11, 3))
    with pytest.raises(ValueError, match="mode 2"):
        VAREdit(InfinityConfig(rope=0))


def test_a_source_is_padded_with_white_below_and_on_the_right() -> None:
    found = padded_to_square(torch.zeros(3, 2, 4))
    assert found.shape == (3, 4, 4)
    assert found[:, :2].eq(0).all()
    assert found[:, 2:].eq(1).all()
