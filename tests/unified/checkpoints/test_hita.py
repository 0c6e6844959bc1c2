"""Hita's order of holistic and local tokens, at sizes other than the reference's."""

import pytest
import torch

from unified.checkpoints.hita.network import Hita, HitaConfig, hidden_width, resized, vision_loss
from unified.checkpoints.image_networks import ImageConfig

CONFIG = HitaConfig(
    image=ImageConfig(latent=8, width=32, multipliers=(1, 1), blocks=0),
    codebooks=((9, 3), (7, 2)),
    holistic=4,
    layers=(1, 1, 2),
    sizes=(2, 3, 8),
    shift=3,
    grid=2,
    vision=(5, True, 0.25, 0.1),
)


@pytest.fixture
def tokenizer():
    torch.manual_seed(0)
    return Hita(CONFIG).eval()


@torch.no_grad()
def test_an_image_becomes_two_kinds_of_ids_on_any_grid(tokenizer):
    for shape in ((2, 2), (3, 4)):
        images = torch.randn(2, 3, 2 * shape[0], 2 * shape[1])
        found = tokenizer.quantise(*tokenizer.latents(images, torch.randn(2, 6, 5)))
        assert found.holistic.ids.shape == (2, 4)
        assert found.local.ids.shape == (2, shape[0] * shape[1])
        made = tokenizer.decode(found.local.ids, found.holistic.ids, shape)
        assert made.shape == images.shape
        again = tokenizer.decode_vectors(found.local.output, found.holistic.output, shape)
        assert again.allclose(made, atol=1e-4)


@torch.no_grad()
def test_holistic_tokens_of_the_second_transformer_see_no_patch(tokenizer):
    part = tokenizer.encode_transformer
    part.transformer1.layers = torch.nn.ModuleList()  # what is left is causal
    slots = [part(torch.randn(1, 8, 2, 2), torch.randn(1, 6, 5))[0] for _ in range(2)]
    assert slots[0].equal(slots[1])


def test_a_cell_sees_holistic_tokens_and_patches_that_are_shift_places_earlier(tokenizer):
    local = torch.randn(1, 9, 3, requires_grad=True)
    holistic = torch.randn(1, 4, 2, requires_grad=True)
    grid = tokenizer.grid(local, holistic, (3, 3)).flatten(2)
    for cell in range(9):
        gradients = torch.autograd.grad(grid[0, :, cell].square().sum(), [local, holistic], retain_graph=True)
        seen = [(gradient[0].abs().sum(dim=1) > 0).tolist() for gradient in gradients]
        assert seen[0] == [place <= cell - CONFIG.shift for place in range(9)]
        assert seen[1] == [place <= cell + 4 - CONFIG.shift for place in range(4)]


def test_position_tables_of_their_own_size_stay_and_others_are_stretched():
    table = torch.randn(1, 9, 4)
    assert resized(table, (3, 3)) is table
    assert resized(table, (5, 2)).shape == (1, 10, 4)
    assert resized(torch.ones(1, 9, 4), (6, 6)).allclose(torch.ones(1, 36, 4), atol=1e-5)


@torch.no_grad()
def test_vision_features_are_reconstructed_from_holistic_tokens_that_see_no_mask(tokenizer):
    part, slots = tokenizer.decode_transformer, torch.randn(1, 4, 8)
    found = part.vision(slots)
    assert found.shape == (1, 256, 5)
    part.mask_embedding.add_(torch.randn(8))
    assert not part.vision(slots).allclose(found, atol=1e-4)
    features = torch.cat([torch.randn(1, 1, 5), found], dim=1)
    assert vision_loss(found, features).item() == pytest.approx(0, abs=1e-5)


def test_the_entropy_counts_for_both_codebooks(tokenizer):
    found = tokenizer.quantise(torch.randn(1, 3, 2, 2), torch.randn(1, 4, 2))
    assert found.local.entropy_loss != 0
    assert found.holistic.entropy_loss != 0
    assert found.loss == found.local.loss + found.holistic.loss


def test_widths_of_gated_layers_and_shifts_out_of_range():
    assert hidden_width(2048) == 1368
    with pytest.raises(ValueError, match="shift must lie between 1 and 6"):
        HitaConfig(shift=7)
