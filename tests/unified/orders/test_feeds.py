"""Feeds against dense matrices, built here from `torch.nn.functional.interpolate` in float64."""

import gc
import time

import pytest
import torch
import torch.nn.functional as F
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.residual_vq import ResidualVQConfig, ResidualVQTokenizer
from unified.tokenizers.vq import VQConfig, VQTokenizer

from unified.orders import Plan, SelfFeed, made, plan_for
from unified.orders.feeds import GatherFeed, ResizeFeed
from unified.orders.resize import bicubic, resize
from unified.orders.shapes import area, as_shapes

SCHEDULES = {
    "square": as_shapes([1, 2, 4, 9]),
    "free": as_shapes([(1, 2), (3, 2), (2, 5), (2, 5)]),
    "large": as_shapes([3, 8, (12, 20), (17, 16)]),  # beyond what is resized by one matrix
}
LONG = as_shapes([1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64])  # the published schedule of 1024 pixels


def interpolated(source, target, mode):
    """[target cells, source cells], float64."""
    cells = source[0] * source[1]
    basis = torch.eye(cells, dtype=torch.float64).view(cells, 1, *source)
    return F.interpolate(basis, size=target, mode=mode).view(cells, -1).T


def dense(order, shapes):
    """The feed [T, T] as one matrix."""
    matrix = torch.zeros(area(shapes), area(shapes), dtype=torch.float64)
    slices = plan_for("next_scale", shapes).map_slices
    for number in range(1, len(shapes)):
        for source in range(number) if order == "residual" else [number - 1]:
            if order == "residual":
                up = interpolated(shapes[source], shapes[-1], "bicubic")
                weights = interpolated(shapes[-1], shapes[number], "area") @ up
            else:
                weights = interpolated(shapes[source], shapes[number], "bicubic")
            matrix[slices[number], slices[source]] = weights
    return matrix


def random_values(length, *leading, dtype=torch.float32):
    return torch.randn(*leading, length, 3, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("mode", ["bicubic", "area"])
@pytest.mark.parametrize(("source", "target"), [((3, 5), (7, 2)), ((16, 17), (20, 12)), ((4, 4), (4, 4))])
def test_resizing_equals_interpolate(source, target, mode):
    values = random_values(area([source]), 2)
    expected = interpolated(source, target, mode) @ values.double()
    torch.testing.assert_close(resize(values, source, target, mode).double(), expected, atol=5e-6, rtol=0)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("order", ["next_scale", "residual"])
def test_feeds_equal_dense_matrices(order, name):
    shapes = SCHEDULES[name]
    plan, values = plan_for(order, shapes), random_values(area(shapes), 2)
    expected = (dense(order, shapes) @ values.double()).float()
    torch.testing.assert_close(plan.feed.inputs(values, plan.slots), expected, atol=5e-6, rtol=0)
    some = torch.tensor([0, 1, plan.length // 2, plan.length - 2, plan.length - 1])
    torch.testing.assert_close(plan.feed.inputs(values, some), expected[:, some], atol=5e-6, rtol=0)
    assert plan.feed.inputs(values, some[:0]).shape == (2, 0, 3)


@pytest.mark.parametrize("order", ["next_scale", "residual", "raster"])
def test_a_step_is_fed_what_one_pass_feeds_it(order):
    """Codes become known step by step; later ones are zero until then. `carry` changes nothing."""
    plan, values = plan_for(order, SCHEDULES["free"]), random_values(area(SCHEDULES["free"]), 2)
    whole, known, carry = plan.feed.inputs(values, plan.slots), torch.zeros_like(values), {}
    for step in plan.steps:
        fed = plan.feed.inputs(known, step.run, carry)
        torch.testing.assert_close(fed, whole[:, step.run], atol=1e-6, rtol=0)
        torch.testing.assert_close(fed, plan.feed.inputs(known, step.run), atol=1e-6, rtol=0)
        known[:, step.decide] = values[:, step.decide]


def test_the_carried_sum_is_used_and_an_earlier_map_may_be_asked_for_again():
    plan, values = plan_for("residual", SCHEDULES["square"]), random_values(area(SCHEDULES["square"]))
    carry = {}
    last, second = plan.steps[3].run, plan.steps[1].run
    plan.feed.inputs(values, last, carry)
    changed = values.clone()
    changed[0] += 1
    assert torch.equal(plan.feed.inputs(changed, last, carry), plan.feed.inputs(values, last))
    assert torch.equal(plan.feed.inputs(changed, second, carry), plan.feed.inputs(changed, second))


@pytest.mark.parametrize("name", ["free", "large"])
@pytest.mark.parametrize("order", ["next_scale", "residual"])
def test_bfloat16_is_rounded_once(order, name):
    """What the dense matrix of that type gave was rounded twice: in its weights, and in its result."""
    shapes = SCHEDULES[name]
    plan, values = plan_for(order, shapes), random_values(area(shapes), dtype=torch.bfloat16)
    fed, matrix = plan.feed.inputs(values, plan.slots), dense(order, shapes)
    assert fed.dtype == torch.bfloat16
    exact = matrix @ values.double()
    torch.testing.assert_close(fed.double(), exact, atol=1e-5, rtol=2**-8)
    before = (matrix.bfloat16() @ values).double()
    assert (fed.double() - exact).norm() <= (before - exact).norm()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = plan.feed.inputs(values.float(), plan.slots)
    torch.testing.assert_close(inside.double(), exact, atol=5e-6, rtol=1e-6)


def test_a_diagonal_feeds_the_mean_of_the_neighbours_above_and_to_the_left():
    plan, values = plan_for("diagonal", ((3, 4),)), random_values(12, 2)
    grid, fed = values.view(2, 3, 4, 3), plan.feed.inputs(values, plan.slots).view(2, 3, 4, 3)
    torch.testing.assert_close(fed[:, 1:, 1:], (grid[:, :-1, 1:] + grid[:, 1:, :-1]) / 2)
    torch.testing.assert_close(fed[:, 0, 1:], grid[:, 0, :-1])
    torch.testing.assert_close(fed[:, 1:, 0], grid[:, :-1, 0])
    assert plan.feed.starts.nonzero().flatten().tolist() == [0]


def test_columns_are_written_one_after_the_other():
    plan, values = plan_for("raster(axis='columns')", ((1, 1), (2, 3))), random_values(7)
    assert plan.labels.tolist() == [0, 1, 3, 5, 2, 4, 6]
    fed = plan.feed.inputs(values, plan.slots)
    assert torch.equal(fed[1:], values[[0, 4, 5, 1, 2, 3]])


def test_a_feed_has_gradients_and_they_are_those_of_the_matrix():
    shapes = SCHEDULES["square"]
    for order in ("next_scale", "residual"):
        values = random_values(area(shapes)).requires_grad_()
        weights = random_values(area(shapes)) + 1
        plan = plan_for(order, shapes)
        (plan.feed.inputs(values, plan.slots) * weights).sum().backward()
        expected = dense(order, shapes).T @ weights.double()
        torch.testing.assert_close(values.grad.double(), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_an_image_is_averaged_over_the_places_of_slots(name):
    shapes = SCHEDULES[name]
    plan, image = plan_for("next_scale", shapes), random_values(area(shapes[-1:]), 2)
    places = torch.cat([interpolated(shapes[-1], shape, "area") for shape in shapes])
    expected = (places @ image.double()).float()
    torch.testing.assert_close(plan.at_slots(image, plan.slots), expected, atol=5e-6, rtol=0)
    some = torch.tensor([0, 2, plan.length - 1])
    torch.testing.assert_close(plan.at_slots(image, some), expected[:, some], atol=5e-6, rtol=0)
    assert plan.at_slots(image, some[:0]).shape == (2, 0, 3)


# Leaks ----------------------------------------------------------------------------------------------------


def plan_of(shapes, labels, feed, **more):
    read = torch.arange(area(shapes))
    return Plan(shapes=shapes, labels=torch.tensor(labels), feed=feed, read=read, read_shapes=shapes, **more)


def test_maps_that_are_fed_what_is_not_known_are_refused():
    shapes = ((1, 2), (1, 2))
    plan_of(shapes, [0, 1, 2, 3], ResizeFeed(shapes, bicubic))
    with pytest.raises(ValueError, match="slot 3 is fed slot 1, which is not known at an earlier step"):
        plan_of(shapes, [0, 1, 2, 1], ResizeFeed(shapes, bicubic))
    longer = (*shapes, (1, 1))
    plan_of(longer, [0, 1, 2, 3, 4], plan_for("residual", longer).feed)
    with pytest.raises(ValueError, match="slot 4 is fed slot 3"):
        plan_of(longer, [0, 1, 2, 3, 3], plan_for("residual", longer).feed)
    plan_of(longer, [0, 1, 1, 2, 2], GatherFeed.means(torch.tensor([[3, 2], [4, 0]]), 5))


def test_a_feed_of_another_length_is_refused():
    with pytest.raises(ValueError, match="a feed of as many slots"):
        plan_of(((1, 2),), [0, 1], SelfFeed(3))
    with pytest.raises(ValueError, match=r"index and weight must be \[T, k\]"):
        GatherFeed(torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 2))


# Cost -----------------------------------------------------------------------------------------------------


def tensor_bytes():
    """Of all tensors that live; those that a compiler traces with have no storage."""
    real = (torch.Tensor, torch.nn.Parameter)
    storages = [x.untyped_storage() for x in gc.get_objects() if type(x) in real]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize("order", ["next_scale", "residual"])
def test_a_plan_of_1024_pixels_is_cheap(order):
    """Within 0.5 s (twice that here, for slow machines) and 20 MB; its dense feed would take 443 MB."""
    gc.collect()
    before, start = tensor_bytes(), time.perf_counter()
    plan = made.__wrapped__(order, LONG, ())
    kept = (plan.steps, plan.sizes, plan.coordinates, plan.slots, plan.heads)
    built = time.perf_counter() - start
    assert built < 1.0
    values = random_values(plan.length)
    fed = plan.feed.inputs(values, plan.slots)
    averaged = plan.at_slots(values[-4096:], plan.slots)
    own = (values, fed, averaged)
    assert plan.length == 10521
    assert len(kept[0]) == 13
    assert tensor_bytes() - before - sum(x.nbytes for x in own) < 20e6


def test_a_long_raster_is_cheap():
    start = time.perf_counter()
    plan = made.__wrapped__("raster", LONG, ())
    assert len(plan.steps) == 10521
    assert time.perf_counter() - start < 1.0


# Tokenizers -----------------------------------------------------------------------------------------------


def test_tokenizers_give_feeds_that_serve_generation_and_teacher_forcing():
    """What is fed map by map is what `transformer_inputs` gives at once; the first map is fed nothing."""
    shapes = [(1, 1), (2, 2), (3, 3)]
    network = NetworkConfig(latent=8, width=32, multipliers=(1, 1), blocks=0)
    torch.manual_seed(0)
    tokenizers = [
        ResidualVQTokenizer(ResidualVQConfig(codes=16, network=network, sizes=(1, 2, 3))),
        VQTokenizer(VQConfig(codes=16, dim=8, encoder=network)),
    ]
    codes = [torch.randint(16, (2, h * w), generator=torch.Generator().manual_seed(1)) for h, w in shapes]
    for tokenizer in tokenizers:
        feed, carry = tokenizer.feed(shapes), {}
        values = torch.zeros(2, 14, 8)
        parts, start = [], 0
        with torch.no_grad():
            for ids in codes:
                slots = torch.arange(start, start + ids.shape[1])
                parts.append(feed.inputs(values, slots, carry))
                values[:, slots] = tokenizer.vectors(ids)
                start += ids.shape[1]
            whole = tokenizer.transformer_inputs(codes, shapes)
            assert not parts[0].any()
            assert feed.starts.tolist() == [True] + [False] * 13
            torch.testing.assert_close(torch.cat(parts[1:], dim=1), whole, atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(
                tokenizer.decode_vectors(feed.image(values).transpose(1, 2).unflatten(2, (3, 3))),
                tokenizer.decode_maps(codes, shapes),
                atol=1e-5,
                rtol=1e-5,
            )


def test_the_plain_residual_feed_is_that_of_a_tokenizer_without_convolutions():
    from unified.tokenizers.phi import PhiConfig

    network = NetworkConfig(latent=8, width=32, multipliers=(1, 1), blocks=0)
    config = ResidualVQConfig(codes=16, network=network, sizes=(1, 2, 3), phi=PhiConfig(blend=0.0))
    shapes = as_shapes([1, 2, 3])
    plan, values = plan_for("residual", shapes), torch.randn(2, 14, 8)
    theirs = ResidualVQTokenizer(config).feed(shapes).inputs(values, plan.slots)
    torch.testing.assert_close(plan.feed.inputs(values, plan.slots), theirs, atol=5e-6, rtol=0)
