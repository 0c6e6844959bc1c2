"""SemAIM: against the published code's outputs, and its orders, streams and losses at other sizes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from unified.checkpoints.semaim import losses, orders
from unified.checkpoints.semaim.network import SemAIM, SemAIMConfig, load, places
from unified.layout.attention import EVERYTHING

sys.path.insert(0, str(Path(__file__).parents[3]))
from golden_folders import GOLDEN, copied, differing, left_out, needs, randomised, refused, spoilt, without

GRID = (3, 4)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny(queries: int = 2, depth: int = 4) -> SemAIM:
    config = SemAIMConfig(
        grid=GRID, patch=2, width=8, depth=depth, queries=queries, heads=2, inner=12, out=12
    )
    return randomised(SemAIM(config))


# Against the published code -------------------------------------------------------------------------------


@needs("semaim")
def test_every_published_output_is_recomputed() -> None:
    found = left_out("semaim")
    assert set(found.values()) == {"not compared: an input"}
    assert {name.split(".")[-1].rstrip("012") for name in found} == {"image", "uniform"}


@needs("semaim")
def test_changed_outputs_are_noticed(tmp_path: Path) -> None:
    names = (
        "perm.attention_guided",
        "perm.raster.visible_counts",
        "train.query1_rows",
        "train.grad.cls_token",
        "train.loss_map",
        "teacher_similarity",
    )
    assert differing(copied("semaim", tmp_path, io=lambda stored: spoilt(stored, *names))) == set(names)


@needs("semaim")
@pytest.mark.parametrize("name", ["image", "train.uniform", "perm.center2out.uniform0"])
def test_a_missing_input_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert name in refused(copied("semaim", tmp_path, io=lambda stored: stored.pop(name)), capsys)


@needs("semaim")
@pytest.mark.parametrize("key", ["attention_type", "boxes", "num_heads", "gaussian_sigma"])
def test_a_missing_option_is_named(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert key in refused(copied("semaim", tmp_path, config=lambda options: without(options, key)), capsys)


@needs("semaim")
def test_stored_places_and_kernel_are_the_formulas() -> None:
    state = load_file(GOLDEN / "semaim" / "weights.safetensors")
    assert torch.allclose(state["pos_embed"][0], places((14, 14), 24), atol=1e-6)
    assert torch.allclose(state["gaussian_blur.weight"][0, 0], losses.gaussian(9, 1), atol=1e-6)


# Orders and masks -----------------------------------------------------------------------------------------


def test_the_query_of_rank_r_depends_on_r_patches() -> None:
    """Changing a patch changes the predictions of later patches alone; its own least of all."""
    model, images = tiny(), drawn(1, 3, 6, 8)
    order = torch.rand(1, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = model(images, order).predicted[0, 1:]
        for patch in (0, 5, 11):
            row, column = patch // 4 * 2, patch % 4 * 2
            other = images.clone()
            other[:, :, row : row + 2, column : column + 2] += 1
            moved = (model(other, order).predicted[0, 1:] - plain).abs().amax(dim=-1) > 1e-6
            assert torch.equal(moved, order[0] > order[0, patch])


def test_masks_follow_the_order_of_each_sample() -> None:
    order = torch.tensor([[2.0, 1.0, 3.0, 1.0], [4.0, 3.0, 2.0, 1.0]])
    content, query = orders.masks(order)
    assert content[0, 1:, 1:].int().tolist() == [[1, 1, 0, 1], [0, 1, 0, 1], [1, 1, 1, 1], [0, 1, 0, 1]]
    assert query[0, 1:, 1:].int().tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]]
    assert query[1, 1:, 1:].sum(dim=1).tolist() == [3, 2, 1, 0]
    for mask in (content, query):
        assert mask[:, :, 0].all()
        assert mask[:, 0].sum(dim=1).tolist() == [1, 1]


def test_rings_grow_around_the_largest_value() -> None:
    mapped = F.one_hot(torch.tensor([5, 0]), 12).float()
    found = orders.rings(mapped, GRID, torch.zeros(2, 12))
    assert found[0].view(GRID)[1].tolist() == [1, 0, 1, 2]
    assert found[1].view(GRID)[:, 0].tolist() == [0, 1, 2]
    ties = orders.rings(mapped, GRID, torch.rand(2, 12))
    assert torch.equal(ties.round(decimals=2).argmin(1), mapped.argmax(1))
    assert len(ties[0].unique()) == 12


def test_boxes_come_before_what_is_outside_them() -> None:
    uniform = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = orders.centre_out(uniform, [(1, 2), (0, 3)]).view(4, 4)
    assert found.argmin() == 5
    assert found[:3, :3].max() < found[3].min()
    boxes = [[[n, n + 1], [0, 4]] for n in range(4)]
    around = orders.boxes_around(uniform, torch.tensor([2]), torch.tensor([3]), boxes)
    assert around.argmin() == 11
    with pytest.raises(ValueError, match="boxes must be ranges"):
        orders.boxes_around(uniform, torch.tensor([2]), torch.tensor([3]), boxes[:3])


def test_named_orders_of_rows() -> None:
    assert orders.row_by_row((2, 3)).tolist() == [[0, 1, 2, 3, 4, 5]]
    assert orders.snake((2, 3)).tolist() == [[0, 1, 2, 5, 4, 3]]


def test_maps_are_distributions_and_a_teachers_reaches_from_0_to_1() -> None:
    tokens = drawn(2, 13, 8)
    for found in (orders.class_map(tokens), orders.mean_map(tokens)):
        assert torch.allclose(found.sum(dim=1), torch.ones(2))
    assert torch.allclose(orders.class_map(tokens), orders.class_map(tokens * 7), atol=1e-6)
    scaled = orders.teacher_map(tokens)
    assert scaled.amin() == 0
    assert scaled.amax().item() == pytest.approx(1, abs=1e-5)


# Network and losses ---------------------------------------------------------------------------------------


def test_when_all_patches_are_equally_early_content_is_the_plain_encoder() -> None:
    model, images = tiny(), drawn(2, 3, 6, 8)
    with torch.no_grad():
        made = model(images, torch.zeros(2, 12))
        hidden = model.embedded(images)
        assert [state.shape for state in made.query] == [hidden.shape] * 2
        # The class token sees itself alone, so that only one block agrees, for the patches.
        plain = model.blocks[0](hidden, EVERYTHING)
    assert torch.allclose(made.content[0][:, 1:], plain[:, 1:], atol=1e-5)


@pytest.mark.parametrize(("queries", "depth"), [(1, 3), (3, 3), (2, 5)])
def test_queries_come_after_every_so_many_blocks(queries: int, depth: int) -> None:
    model = tiny(queries, depth)
    made = model(drawn(1, 3, 6, 8), torch.rand(1, 12))
    assert len(made.query) == queries
    made.predicted.sum().backward()
    assert all(p.grad is not None for p in model.query_blocks.parameters())


def test_sizes_come_from_the_weights() -> None:
    sizes = {"grid": (3, 3), "patch": 2, "width": 8, "depth": 3, "queries": 1, "inner": 12, "out": 5}
    state = SemAIM(SemAIMConfig(heads=2, **sizes)).state_dict()
    model = load({"num_heads": 4}, state)
    assert model.config == SemAIMConfig(heads=4, **sizes)
    with pytest.raises(ValueError, match=r"lacks prediction_head\.fc2\.weight"):
        load({"num_heads": 4}, {n: v for n, v in state.items() if n != "prediction_head.fc2.weight"})
    with pytest.raises(ValueError, match=r"images must be \[B, 3, 6, 6\], got \(1, 3, 6, 8\)"):
        model(drawn(1, 3, 6, 8), torch.rand(1, 9))
    with pytest.raises(ValueError, match="multiple of 4 and of 3 heads"):
        SemAIMConfig(width=8, heads=3)
    with pytest.raises(ValueError, match="from 1 to 2 can have queries, got 3"):
        SemAIMConfig(depth=2, queries=3)


def test_patches_are_pixels_by_row_column_and_colour() -> None:
    images = drawn(2, 3, 6, 8)
    found = losses.patches(images, 2)
    assert found.shape == (2, 12, 12)
    assert torch.equal(found[1, 5], images[1, :, 2:4, 2:4].permute(1, 2, 0).flatten())


def test_targets_have_mean_0_and_variance_1_and_blur_keeps_a_flat_inside() -> None:
    targets = losses.normalised(losses.patches(drawn(2, 3, 6, 8), 2))
    assert targets.mean(dim=-1).abs().max() < 1e-5
    assert torch.allclose(targets.var(dim=-1), torch.ones(2, 12), atol=1e-3)
    flat = losses.blurred(torch.ones(1, 3, 9, 9), losses.gaussian(5, 2.0))
    assert torch.allclose(flat[:, :, 2:-2, 2:-2], torch.ones(1, 3, 5, 5), atol=1e-6)
    assert flat[0, 0, 0, 0] < 0.6
    with pytest.raises(ValueError, match="positive sigma"):
        losses.gaussian(3, 0)


def test_losses_written_out() -> None:
    one, other = drawn(2, 5, 7), drawn(2, 5, 7, seed=1)
    cosine = F.cosine_similarity(one, other, dim=-1)
    assert torch.allclose(losses.feature_loss(one, other), 2 - 2 * cosine, atol=1e-5)
    assert torch.allclose(losses.pixel_loss(one, other, absolute=True), (one - other).abs().mean(dim=-1))
    assert losses.average_decay(0) == 0.999
    assert losses.average_decay(50) == pytest.approx(0.99945)
    assert losses.average_decay(100) == losses.average_decay(500) == 0.9999
