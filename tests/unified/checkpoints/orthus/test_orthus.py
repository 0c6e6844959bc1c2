"""Orthus on tiny random modules: causality, padding, cached equals uncached, patches that do not depend on
the batch."""

import pytest
import torch

from unified.checkpoints.orthus.generation import PatchDecoding, draw_patches, image
from unified.checkpoints.orthus.network import (
    Orthus,
    OrthusConfig,
    OrthusIds,
    before_patches,
    kept_shares,
    load,
    patch_loss,
)
from unified.decoding.noise import PositionNoise
from unified.heads.denoiser import Denoiser

IDS = OrthusIds(image=30, begin=21, end=20, separator=29, first_code=4)
SIZES = {"vocabulary": 32, "codes": 9, "channels": 3, "width": 24, "layers": 2, "heads": 3, "hidden": 20}


def tiny():
    torch.manual_seed(0)
    model = Orthus(OrthusConfig(ids=IDS, **SIZES), Denoiser(24, 3, 16, 1, 3))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def row(*before, patches=4):
    return [*before, IDS.begin, *[IDS.image] * patches, IDS.end]


@torch.no_grad()
def test_what_comes_later_has_no_effect_also_inside_an_image():
    model, ids = tiny(), torch.tensor([row(1, 2), row(3, 1)])
    latents = torch.randn(2, 4, 3)
    one = model(ids, latents).hidden
    latents[:, 2:] += 1
    other = model(ids, latents).hidden
    assert torch.equal(one[:, :5], other[:, :5])
    assert not torch.allclose(one[:, 5:], other[:, 5:])


@torch.no_grad()
def test_padding_on_the_left_changes_nothing():
    model, latents = tiny(), torch.randn(1, 4, 3)
    alone = model(torch.tensor([row(5)]), latents).hidden
    ids = torch.tensor([[9, 9, 9, *row(5)]])
    mask = torch.arange(10)[None] > 2
    torch.testing.assert_close(model(ids, latents, mask).hidden[:, 3:], alone)


@torch.no_grad()
def test_cached_equals_uncached():
    model, latents, ids = tiny(), torch.randn(2, 4, 3), torch.tensor([row(5, 6), row(7, 8)])
    mask = torch.ones_like(ids).bool()
    mask[1, 0] = False
    whole, stores, found = model(ids, latents, mask), model.stores(8), []
    for start, stop in ((0, 3), (3, 4), (4, 8)):
        found.append(model.read(whole.embeds[:, start:stop], mask[:, :stop], stores).hidden)
    cached = torch.cat(found, dim=1)
    torch.testing.assert_close(cached[mask], whole.hidden[mask], rtol=0, atol=1e-4)


PROMPTS = torch.tensor([[1, 2, 3], [0, 4, 5], [0, 0, 1], [0, 0, 1]])  # two images, each with an empty prompt
SETTINGS = PatchDecoding(patches=3, steps=4, scales=(2.0,))


@torch.no_grad()
def test_generation_is_what_one_pass_over_its_own_patches_gives():
    model, noise = tiny(), PositionNoise([3, 4])
    latents = image(model, PROMPTS, PROMPTS > 0, noise, SETTINGS)
    ids = torch.cat([PROMPTS, torch.tensor([[IDS.begin, *[IDS.image] * 3]]).expand(4, -1)], dim=1)
    hidden = model(ids, latents.repeat(2, 1, 1), ids > 0).hidden
    for patch in range(3):
        start = noise.normal(torch.full((2, 1), patch), 3)[:, 0]
        found = draw_patches(model.mlp_head, hidden[:, 3 + patch].unflatten(0, (2, 2)), start, SETTINGS)
        torch.testing.assert_close(found, latents[:, patch], rtol=1e-3, atol=1e-3)


def test_a_row_is_the_same_alone_and_in_a_batch():
    model = tiny()
    both = image(model, PROMPTS, PROMPTS > 0, PositionNoise([3, 4]), SETTINGS)
    for number in range(2):
        own = PROMPTS[[number, number + 2]]
        alone = image(model, own, own > 0, PositionNoise([3 + number]), SETTINGS)
        torch.testing.assert_close(alone[0], both[number], rtol=1e-3, atol=1e-3)
    other = image(model, PROMPTS, PROMPTS > 0, PositionNoise([9, 4]), SETTINGS)
    assert not torch.equal(other[0], both[0])
    with pytest.raises(ValueError, match="3 rows are not shared out among 2 branches"):
        image(model, PROMPTS[:3], PROMPTS[:3] > 0, PositionNoise([1]), SETTINGS)


def test_patches_are_predicted_from_the_position_before():
    one, two = torch.tensor([row(1)]), torch.tensor([row(1) + row(2)])
    assert before_patches(one, IDS, 4)[0].nonzero()[:, 0].tolist() == [1, 2, 3, 4]
    assert before_patches(two, IDS, 4)[0].nonzero()[:, 0].tolist() == [8, 9, 10, 11]
    assert before_patches(two, IDS, 4, every=True).sum() == 8
    with pytest.raises(ValueError, match=r"images of 3 patches, got \[4\]"):
        before_patches(one, IDS, 3)


def test_placeholders_without_their_patches_are_refused():
    with pytest.raises(ValueError, match=r"3 patches for \[4\] placeholders"):
        tiny().embeds(torch.tensor([row(1)]), torch.zeros(1, 3, 3))


def test_the_loss_is_of_the_velocity_of_scaled_patches():
    model, hidden, patches = tiny(), torch.randn(5, 24), torch.randn(5, 3)
    steps, noise = torch.randint(1000, (10,)), torch.randn(10, 3)
    made = patch_loss(model.mlp_head, hidden, patches, steps, noise)
    total = 0.0
    for number in range(10):
        a, value = float(kept_shares()[steps[number]]), 0.1 * patches[number % 5]
        noisy = a**0.5 * value + (1 - a) ** 0.5 * noise[number]
        told = steps[number : number + 1]
        found = model.mlp_head(noisy[None], told, hidden[number % 5][None])[0]
        total += float((found - (a**0.5 * noise[number] - (1 - a) ** 0.5 * value)).square().mean().detach())
    assert abs(float(made.loss.detach()) - total / 10) < 1e-5
    assert float(kept_shares()[-1]) == 0


def test_weights_that_do_not_fit_are_refused():
    state = {name: value for name, value in tiny().state_dict().items() if "mlp_head" not in name}
    with pytest.raises(ValueError, match="input_proj"):
        load(state, IDS)
