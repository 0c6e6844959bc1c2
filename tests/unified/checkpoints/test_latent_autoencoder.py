"""The KL autoencoder under its first names against the one of diffusers' names."""

import re

import pytest
import torch
from unified.tokenizers.networks import NetworkConfig

from unified.checkpoints.autoencoder_kl import AutoencoderKL, config_from
from unified.checkpoints.latent_autoencoder import (
    LatentAutoencoder,
    LatentAutoencoderConfig,
    config_of,
    load,
    official,
)

WIDTHS = (32, 64)


def made(attention=False, channels=4):
    torch.manual_seed(0)
    network = NetworkConfig(latent=6, width=32, multipliers=(1, 2), blocks=1, attention=attention)
    model = LatentAutoencoder(LatentAutoencoderConfig(network=network, channels=channels))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def diffusers_name(name):
    """The name that diffusers gives a weight of the first releases."""
    last = len(WIDTHS) - 1
    name = name.replace("norm_out", "conv_norm_out").replace("nin_shortcut", "conv_shortcut")
    name = re.sub(r"mid\.block_(\d)", lambda m: f"mid_block.resnets.{int(m[1]) - 1}", name)
    name = re.sub(r"down\.(\d+)\.block", r"down_blocks.\1.resnets", name)
    name = re.sub(r"down\.(\d+)\.downsample", r"down_blocks.\1.downsamplers.0", name)
    name = re.sub(r"up\.(\d+)\.block", lambda m: f"up_blocks.{last - int(m[1])}.resnets", name)
    name = re.sub(r"up\.(\d+)\.upsample", lambda m: f"up_blocks.{last - int(m[1])}.upsamplers.0", name)
    name = name.replace("mid.attn_1.norm", "mid_block.attentions.0.group_norm")
    name = name.replace("mid.attn_1.proj_out", "mid_block.attentions.0.to_out.0")
    return re.sub(r"mid\.attn_1\.([qkv])\.", r"mid_block.attentions.0.to_\1.", name)


def test_both_forms_of_the_names_compute_the_same():
    model = made(channels=6)
    options = {"latent_channels": 6, "block_out_channels": WIDTHS, "layers_per_block": 1}
    other = AutoencoderKL(config_from(options)).eval()
    state = {diffusers_name(name): value for name, value in official(model).items()}
    shapes = {name: value.shape for name, value in other.state_dict().items()}
    other.load_state_dict({name: value.view(shapes[name]) for name, value in state.items()})
    images = torch.rand(2, 3, 8, 12) * 2 - 1
    with torch.no_grad():
        found, wanted = model.encode(images), other.encode(images)
        torch.testing.assert_close(found.mean, wanted.mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.std, wanted.std, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model.decode(found.mean), other.decode(found.mean), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("attention", [False, True])
def test_sizes_are_read_off_published_weights(attention):
    model = made(attention)
    weights = {**official(model), "loss.discriminator.main.0.weight": torch.zeros(1)}
    assert config_of(weights) == model.config
    again = load({"model": weights})
    latent = torch.randn(1, 4, 2, 3)
    assert torch.equal(again.decode(latent), model.decode(latent))
    assert again.decode(latent).shape == (1, 3, 4, 6)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("encoder.conv_in.weight", "no convolution encoder.conv_in.weight"),
        ("post_quant_conv.weight", "no convolution post_quant_conv.weight"),
        ("decoder.mid.block_1.conv1.weight", "decoder.mid.block_1.conv1.weight"),
        ("encoder.down.0.block.0.conv2.weight", "no levels"),
    ],
)
def test_weights_that_lack_something_are_one_line(missing, said):
    weights = official(made())
    del weights[missing]
    with pytest.raises(ValueError, match=said) as refused:
        load(weights)
    assert "\n" not in str(refused.value)
