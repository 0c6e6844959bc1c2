"""The Context-Aware Vision Head: causal, exact with its cache, and what it sees of finished images."""

import pytest
import torch

from unified.heads.vision_head import HeadCache, VisionHead, VisionHeadConfig
from unified.heads.vision_head_layers import inverse_frequencies, rotate

SIZES = {
    "one vector": {},
    "four vectors": {"merge": 4, "text_width": 40},
    "wide heads": {"vision_width": 160, "heads": 2},  # 80 channels, of which 40 are rotated
}
EVERY = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())


def made(sizes=None, **more):
    torch.manual_seed(0)
    head = VisionHead(VisionHeadConfig(depth=(2, 2), **{**(sizes or {}), **more})).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return head


def inputs(head, images=2, rows=2):
    config, generator = head.config, torch.Generator().manual_seed(1)
    prefix = torch.randn(rows, images * config.tokens, config.text_width, generator=generator)
    mask = torch.ones(prefix.shape[:2], dtype=torch.bool)
    local = torch.randn(rows, config.tokens, config.text_width, generator=generator)
    return prefix, mask, local


@EVERY
@pytest.mark.parametrize("pieces", [[1, 1, 1, 1], [3, 1], [1, 3]])
@pytest.mark.parametrize("gradients", [(True, True), (False, False), (True, False), (False, True)])
def test_rows_one_after_another_are_those_of_one_pass(sizes, pieces, gradients):
    """With gradients and without, when the image is opened and while it is drawn."""
    head = made(sizes)
    prefix, mask, local = inputs(head)
    whole = head(prefix, mask, local)
    with torch.set_grad_enabled(gradients[0]):
        cache = head.open(prefix, mask)
    with torch.set_grad_enabled(gradients[1]):
        parts = [head.extend(cache, part) for part in local.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=0)
    assert cache.count == head.config.tokens * head.config.merge


@EVERY
def test_nothing_grows_while_an_image_is_drawn(sizes):
    head = made(sizes)
    prefix, mask, local = inputs(head)
    with torch.no_grad():
        cache = head.open(prefix, mask)
        head.extend(cache, local[:, :1])
        buffers = [store.held[0].data_ptr() for store in cache.layers]
        head.extend(cache, local[:, 1:])
    assert [store.held[0].data_ptr() for store in cache.layers] == buffers


@EVERY
def test_a_row_does_not_see_later_ones(sizes):
    head = made(sizes)
    prefix, mask, local = inputs(head)
    changed = local.clone()
    changed[:, 2] += 1
    before, after = head(prefix, mask, local), head(prefix, mask, changed)
    seen = 2 * head.config.merge
    assert torch.equal(before[:, :seen], after[:, :seen])
    assert (before[:, seen:] - after[:, seen:]).abs().amax() > 1e-3


@EVERY
def test_every_finished_image_is_seen(sizes):
    head = made(sizes)
    prefix, mask, local = inputs(head)
    found = head(prefix, mask, local)
    for row in (0, -1):
        changed = prefix.clone()
        changed[:, row] += 1
        assert (head(changed, mask, local)[:, 0] - found[:, 0]).abs().amax() > 1e-4


def test_padding_holds_anything_and_moves_nothing():
    """A row with one image beside one with two is what it is alone."""
    head = made()
    prefix, mask, local = inputs(head)
    alone = head(prefix[:1, 4:], mask[:1, 4:], local[:1])
    mask[0, :4] = False
    prefix[0, :4] = 1e6
    torch.testing.assert_close(head(prefix, mask, local)[:1], alone, atol=1e-5, rtol=0)


def test_there_may_be_no_image_before():
    head = made()
    prefix, mask, local = inputs(head, images=0)
    assert head(prefix, mask, local).shape == (2, 4, 64)


def test_too_many_images_or_latents_are_refused():
    head = made(images=2)
    with pytest.raises(ValueError, match="3 finished images, the vision head has room for 2"):
        head(*inputs(head, images=3))
    prefix, mask, local = inputs(head)
    cache = head.open(prefix, mask)
    head.extend(cache, local)
    with pytest.raises(ValueError, match="an image has 4 latents"):
        head.extend(cache, local[:, :1])


def test_context_dropout_drops_so_many_places_in_training_alone():
    head = made(images=10)
    head.context_dropout = 0.5
    prefix, mask, local = inputs(head, images=10)
    assert all(bool(part.all()) for part in head.open(prefix, mask).masks)
    head.train()
    masks = head.open(prefix, mask, torch.Generator().manual_seed(0)).masks
    assert [part.sum(dim=1).tolist() for part in masks] == [[20, 20], [20, 20]]
    assert not torch.equal(masks[0], masks[1])
    again = head.open(prefix, mask, torch.Generator().manual_seed(0)).masks
    assert torch.equal(masks[0], again[0])
    dropped = head(prefix, mask, local, torch.Generator().manual_seed(0))
    assert (dropped - head.eval()(prefix, mask, local)).abs().amax() > 1e-3


def test_half_of_a_wide_head_is_rotated():
    assert inverse_frequencies(80).shape == (20,)
    assert inverse_frequencies(32).shape == (16,)
    x = torch.randn(1, 1, 3, 80)
    angles = torch.ones(1, 3, 40)
    assert torch.equal(rotate(x, angles)[..., 40:], x[..., 40:])
    torch.testing.assert_close(rotate(x, angles).norm(), x.norm())


def test_gradients_reach_the_context():
    head = made()
    prefix, mask, local = inputs(head)
    prefix.requires_grad_()
    head(prefix, mask, local).square().sum().backward()
    assert prefix.grad.abs().amin(dim=2).gt(0).all()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_it_begins_as_published():
    torch.manual_seed(0)
    head = VisionHead(VisionHeadConfig())
    assert head.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not head.mlp[0].bias.any()
    assert isinstance(head.open(torch.zeros(1, 0, 48), torch.zeros(1, 0, dtype=torch.bool)), HeadCache)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"heads": 0}, "whole numbers from 1"),
        ({"depth": (2,)}, "whole numbers from 1"),
        ({"vision_width": 64, "heads": 4}, "heads of at least 32"),
        ({"vision_width": 65}, "heads of at least 32"),
        ({"position_rows": 15}, "at least 16"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        VisionHeadConfig(**wrong)
    with pytest.raises(ValueError, match="context_dropout"):
        VisionHead(VisionHeadConfig(), context_dropout=1.0)
