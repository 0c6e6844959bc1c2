"""GigaTok's parts at sizes other than the reference's."""

import pytest
import torch

from unified.checkpoints.gigatok.network import (
    AUXILIARY_STEPS,
    GigaTok,
    GigaTokConfig,
    Losses,
    MapReader,
    ReaderConfig,
    blocked,
    pooled,
    semantic_loss,
)
from unified.checkpoints.image_networks import AdaptiveNorm, ImageConfig, depth_to_space
from unified.checkpoints.unit_codebook import UnitQuantised


def test_queries_begin_from_coarse_to_fine():
    grid = torch.arange(16.0).view(1, 1, 4, 4)
    found = pooled(grid, 8)[0, :, 0].tolist()
    assert found == [7.5, 7.5, 6.5, 8.5, 2.5, 4.5, 10.5, 12.5]


def test_masks_of_tokens_and_of_levels():
    assert (~blocked(4, "per-token")).equal(torch.ones(4, 4, dtype=torch.bool).tril())
    seen = (~blocked(8, "per-level")).sum(dim=1)
    assert seen.tolist() == [2, 2, 4, 4, 8, 8, 8, 8]


@pytest.mark.parametrize("causal", ["per-token", "per-level"])
def test_causal_tokens_do_not_see_later_ones(causal):
    torch.manual_seed(0)
    reader = MapReader(ReaderConfig(width=8, heads=2, layers=2, tokens=8, side=4), 4).eval()
    grid = torch.randn(1, 4, 4, 4)
    few, all_of_them = (
        reader(grid, causal, level)[..., :4] for level in ((4, 8) if causal == "per-token" else (2, 3))
    )
    assert few.allclose(all_of_them, atol=1e-6)
    assert not reader(grid)[..., :4].allclose(few, atol=1e-3)


def test_depth_to_space_keeps_channels_together():
    x = torch.arange(8.0).view(1, 8, 1, 1)
    assert depth_to_space(x)[0].tolist() == [[[0, 2], [4, 6]], [[1, 3], [5, 7]]]


def test_the_adaptive_norm_follows_the_latent():
    layer = AdaptiveNorm(1, 32)
    torch.nn.init.ones_(layer.gamma.weight)
    torch.nn.init.zeros_(layer.gamma.bias)
    torch.nn.init.ones_(layer.beta.weight)
    torch.nn.init.zeros_(layer.beta.bias)
    x, latent = torch.randn(2, 32, 4, 4), torch.randn(2, 1, 2, 2) * 3 + 1
    out = layer(x, latent)
    assert out.mean(dim=(2, 3)).allclose(latent.mean(dim=(2, 3)).expand(2, 32), atol=1e-4)
    assert out.std(dim=(2, 3), correction=0).allclose(
        latent.flatten(1).std(dim=1)[:, None].expand(2, 32), rtol=1e-2
    )


def test_images_become_ids_and_images_again_at_any_size_it_is_built_for():
    torch.manual_seed(0)
    image = ImageConfig(latent=8, width=32, multipliers=(1, 1), blocks=1, attention=False, modulated=True)
    readers = [ReaderConfig(width=8, heads=1, layers=1, tokens=4, side=4) for _ in range(2)]
    config = GigaTokConfig(
        image=image, codes=10, dim=3, encoder=readers[0], decoder=readers[1], distill=1, teacher=5
    )
    tokenizer = GigaTok(config).eval()
    images = torch.randn(2, 3, 8, 8)
    ids = tokenizer.encode(images)
    assert ids.shape == (2, 4)
    assert ids.max() < 10
    found = tokenizer.decode_vectors(tokenizer.quantise(tokenizer.latent(images)).output)
    assert found.features.shape == (2, 16, 5)
    assert found.images.allclose(tokenizer.decode(ids), atol=1e-4)
    assert found.images.shape == images.shape


def test_auxiliary_terms_end():
    one = torch.ones(())
    quantised = UnitQuantised(one, one, one, one, one)
    losses = Losses(one, one, one, quantised, 2 * one)
    assert losses.total(0) == 7
    assert losses.total(AUXILIARY_STEPS) == 5
    assert semantic_loss(torch.ones(1, 2, 3), torch.ones(1, 2, 3)).item() == pytest.approx(-1)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="power of two, got 12"):
        ReaderConfig(tokens=12)
    with pytest.raises(ValueError, match="distill must lie between 1 and 3, got 4"):
        GigaTokConfig(distill=4)
    with pytest.raises(ValueError, match="multiple of 32"):
        ImageConfig(width=20)
