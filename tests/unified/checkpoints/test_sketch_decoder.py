"""The sketch decoder, its autoencoder and its losses on tiny random weights."""

import json

import pytest
import torch
from safetensors.torch import save_file

from unified.checkpoints import autoencoder_kl, sketch_decoder
from unified.checkpoints.autoencoder_kl import AutoencoderKL, Posterior
from unified.checkpoints.mineworld_networks import MineWorldVQConfig
from unified.checkpoints.sketch_decoder import SketchDecoder, SketchDecoderConfig
from unified.checkpoints.sketch_losses import focal_loss, nll_loss, sketch_losses

OPTIONS = {"latent_channels": 4, "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4}


def autoencoder():
    torch.manual_seed(0)
    return AutoencoderKL(MineWorldVQConfig(latent=4, widths=(8, 16), groups=4, attention=True)).eval()


def decoder(**changes):
    sizes = {"features": 6, "width": 16, "heads": 4, "layers": 1, "inner": 24, "grid": 4, "position_rows": 12}
    vae = autoencoder()
    torch.manual_seed(1)
    return SketchDecoder(SketchDecoderConfig(**{**sizes, **changes}), vae).eval()


def test_pictures_of_features():
    made = decoder()
    assert made.size == 8
    pictures = made.decode(torch.randn(2, 10, 6))
    assert pictures.shape == (2, 3, 8, 8)
    assert pictures.abs().max() <= 1
    assert not torch.equal(pictures[0], pictures[1])


def test_features_see_one_another_and_know_their_places():
    made, features = decoder(), torch.randn(1, 3, 6)
    found = made(features).dense
    assert (made(features.flip(1)).dense - found).abs().max() > 1e-4


def test_the_autoencoder_is_frozen_and_its_last_convolutions_are_copied():
    made = decoder()
    assert torch.equal(made.aligner.conv_out.weight, made.vae.encoder.conv_out.weight)
    trains = {name.split(".")[1] for name, value in made.named_parameters() if value.requires_grad}
    assert trains == {"encoder_proj", "encoder_query", "encoder"}


def test_saved_and_loaded_it_draws_the_same(tmp_path):
    made, features = decoder(), torch.randn(1, 10, 6)
    sketch_decoder.save(tmp_path, made)
    loaded = sketch_decoder.load(tmp_path)
    assert torch.equal(loaded.decode(features), made.decode(features))
    assert loaded.config == made.config
    (tmp_path / sketch_decoder.CONFIG).write_text('{"features": 6, "colour": 1}')
    with pytest.raises(ValueError, match=r"sketch_decoder.safetensors: .*colour"):
        sketch_decoder.load(tmp_path)
    (tmp_path / sketch_decoder.WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        sketch_decoder.load(tmp_path)


@pytest.mark.parametrize(
    ("features", "said"), [((1, 11, 6), "at most 10 of width 6"), ((1, 3, 7), "3 features of width 7")]
)
def test_other_features_are_refused(features, said):
    with pytest.raises(ValueError, match=said):
        decoder().decode(torch.zeros(features))


def test_an_autoencoder_of_other_widths_is_refused():
    with pytest.raises(ValueError, match="the autoencoder has width 16 and 4 channels"):
        decoder(width=32)
    with pytest.raises(ValueError, match="multiple of 3 heads"):
        decoder(heads=3)


# Autoencoder ------------------------------------------------------------------------------------------------


def save_vae(folder, options=None, weights=None):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(options or OPTIONS))
    save_file(weights or dict(autoencoder().state_dict()), folder / autoencoder_kl.WEIGHTS)
    return folder


def test_a_folder_of_diffusers_is_read(tmp_path):
    images = torch.rand(2, 3, 8, 12) * 2 - 1
    found, own = autoencoder_kl.load(save_vae(tmp_path)), autoencoder()
    assert torch.equal(found.encode(images).mean, own.encode(images).mean)
    assert own.encode(images).mean.shape == (2, 4, 4, 6)
    assert found.decode(found.encode(images).mean).shape == images.shape


def test_former_names_of_attention_are_read(tmp_path):
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for name, value in autoencoder().state_dict().items():
        for new, old in former.items():
            if f".{new}." in name:
                name = name.replace(f".{new}.", f".{old}.")
                value = value[..., None, None] if value.dim() == 2 else value
        weights[name] = value.contiguous()
    assert any(".query." in name for name in weights)
    found = autoencoder_kl.load(save_vae(tmp_path, weights=weights))
    own = dict(autoencoder().state_dict())
    assert all(torch.equal(value, own[name]) for name, value in found.state_dict().items())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({**OPTIONS, "act_fn": "gelu"}, "act_fn must be 'silu'"),
        ({"latent_channels": 4}, "lack block_out_channels"),
        ({**OPTIONS, "block_out_channels": [8, 16, 16]}, "weights do not fit"),
        ({**OPTIONS, "norm_num_groups": 3}, "multiple of 3"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(tmp_path, options, said):
    with pytest.raises(ValueError, match=said) as error:
        autoencoder_kl.load(save_vae(tmp_path, options))
    assert "\n" not in str(error.value)


def test_it_is_that_of_diffusers():
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    own = autoencoder()
    theirs = diffusers.AutoencoderKL(**OPTIONS, **blocks).eval()
    theirs.load_state_dict(own.state_dict())
    images = torch.rand(1, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        latent = theirs.encode(images).latent_dist
        torch.testing.assert_close(own.encode(images).mean, latent.mean, atol=1e-5, rtol=0)
        torch.testing.assert_close(own.encode(images).std, latent.std, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            own.decode(latent.mean), theirs.decode(latent.mean).sample, atol=1e-4, rtol=0
        )


# Losses -----------------------------------------------------------------------------------------------------


def test_the_focal_loss_counts_far_pixels_twice_over_the_foreground():
    pixels, mask = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    decoded = pixels.clone()
    decoded[0, 0, 0, 0], decoded[0, 0, 0, 1] = 0.5, 0.05
    mask[0, :, 0] = 1
    assert focal_loss(decoded, pixels, mask).item() == pytest.approx((2 * 0.25 + 0.0025) / 6)
    assert focal_loss(decoded, pixels, 0 * mask).item() == pytest.approx((0.25 + 0.0025) / 12)


def test_the_likelihood_is_never_below_zero():
    mean = torch.randn(1, 4, 2, 2)
    sharp, wide = (Posterior(mean, torch.full_like(mean, std)) for std in (1e-9, 2.0))
    assert nll_loss(sharp, mean).item() == 0
    assert nll_loss(wide, mean + 1).item() == pytest.approx(0.5 * (torch.tensor(4.0).log().item() + 0.25))


def test_a_decoder_learns_a_few_pictures():
    made, generator = decoder(), torch.Generator().manual_seed(0)
    features = torch.randn(4, 10, 6, generator=generator)
    pixels = torch.where(torch.rand(4, 3, 8, 8, generator=generator) > 0.5, 1.0, -1.0)
    foreground = (pixels < 0).float()
    noise = torch.randn(2, 4, 4, 4, 4, generator=generator)
    optimiser = torch.optim.Adam([value for value in made.parameters() if value.requires_grad], lr=3e-3)
    totals = []
    for _ in range(60):
        losses = sketch_losses(made, features, pixels, foreground, (noise[0], noise[1]))
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        totals.append(losses.embed.item())
    assert totals[-1] < 0.7 * totals[0]
