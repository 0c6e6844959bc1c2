"""KL-VAEs as visual tokenizers: our own and folders of diffusers."""

import json

import pytest
import torch
from safetensors.torch import save_file
from unified.tokenizers.kl import KLConfig, KLTokenizer
from unified.tokenizers.networks import NetworkConfig
from unified.train.folders import load_visual

from unified.checkpoints import autoencoder_kl
from unified.checkpoints.autoencoder_kl import AutoencoderKL
from unified.checkpoints.latent_tokenizer import LatentsConfig, LatentTokenizer, of_kl
from unified.checkpoints.mineworld_networks import MineWorldVQConfig
from unified.stream.visual_files import load_visual as load_stored
from unified.stream.visual_files import save_visual

NETWORK = NetworkConfig(latent=4, width=32, multipliers=(1,), blocks=0, groups=8, patch=4, attention=False)
OPTIONS = {
    "_class_name": "AutoencoderKL",
    "latent_channels": 4,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "scaling_factor": 0.5,
    "shift_factor": 0.25,
}


def images(size=16):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def trained():
    """A `kl` whose training has seen latents."""
    torch.manual_seed(0)
    tokenizer = KLTokenizer(KLConfig(network=NETWORK))
    with torch.no_grad():
        for _ in range(3):
            tokenizer.training_pass(images(), [])
    return tokenizer.eval()


def diffusers_folder(folder, **options):
    torch.manual_seed(0)
    network = AutoencoderKL(MineWorldVQConfig(latent=4, widths=(8, 16), groups=4, attention=True)).eval()
    (folder / "config.json").write_text(json.dumps({**OPTIONS, **options}))
    save_file(dict(network.state_dict()), folder / autoencoder_kl.WEIGHTS)
    return folder, network


@torch.no_grad()
def test_latents_are_scaled_by_what_training_measured(trained):
    made = of_kl(trained)
    latent = made.latent(images())
    assert latent.mean(dim=(0, 2, 3)).abs().max() < 0.5
    assert 0.4 < float(latent.std()) < 1.6
    (codes,) = made.encode(images())
    assert codes.shape == (2, 16)
    assert int(codes.max()) < made.codes
    found, want = made.decode_maps([codes], [(4, 4)]), trained.decode_vectors(trained.latent(images()))
    torch.testing.assert_close(found, want, atol=2e-3, rtol=0)


@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(trained, tmp_path):
    save_visual(trained, tmp_path / "kl")
    made = load_visual(tmp_path / "kl")
    save_visual(made, tmp_path / "latents")
    again = load_stored(tmp_path / "latents")
    assert isinstance(again, LatentTokenizer)
    assert torch.equal(again.encode(images())[0], made.encode(images())[0])


def test_a_kl_saved_before_latents_were_measured_loads(trained, tmp_path):
    save_visual(trained, tmp_path)
    state = {name: value for name, value in trained.state_dict().items() if name != "averages"}
    save_file(state, tmp_path / "visual.safetensors")
    assert load_visual(tmp_path).config.scale == (1.0,) * 4


@torch.no_grad()
def test_a_folder_of_diffusers_is_one(tmp_path):
    folder, network = diffusers_folder(tmp_path)
    made = load_visual(folder)
    want = (network.encode(images()).mean - 0.25) * 0.5
    torch.testing.assert_close(made.latent(images()), want)
    codes = made.encode(images())
    found = made.decode_maps(codes, [(8, 8)])
    torch.testing.assert_close(found, network.decode(network.encode(images()).mean), atol=2e-3, rtol=0)
    save_visual(made, tmp_path / "saved")
    assert torch.equal(load_stored(tmp_path / "saved").encode(images())[0], codes[0])


@torch.no_grad()
def test_smaller_maps_are_averages(trained):
    made = of_kl(trained)
    small, whole = made.encode(images(), [(1, 1), (4, 4)])
    mean = made.vectors(whole).mean(dim=1)
    torch.testing.assert_close(made.vectors(small)[:, 0], mean, atol=1e-3, rtol=0)
    assert made.read_shapes([(1, 1), (4, 4)]) == [(4, 4)]


def test_what_cannot_be_a_tokenizer_is_refused(trained, tmp_path):
    with pytest.raises(ValueError, match="needs 2 to 10 channels"):
        LatentsConfig(diffusers=MineWorldVQConfig(latent=16))
    with pytest.raises(ValueError, match="has one autoencoder"):
        LatentsConfig()
    with pytest.raises(ValueError, match="no codebook"):
        of_kl(trained).codebook()
    folder, _ = diffusers_folder(tmp_path, scaling_factor=0)
    with pytest.raises(ValueError, match="scale must not be 0"):
        load_visual(folder)
