"""The convolutional autoencoder with a Gaussian latent that Stable Diffusion XL is built on.

Source: `AutoencoderKL` of diffusers (Apache-2.0), whose configuration and names of weights are read as they
are saved; its networks are those of MineWorld's tokenizer. Rombach et al., arXiv 2112.10752; Podell et al.,
arXiv 2307.01952. Latents are not scaled here: that is a diffusion model's business. Tests:
tests/unified/checkpoints/test_sketch_decoder.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unified.checkpoints.folder import read_config
from unified.checkpoints.mineworld_networks import Decoder, Encoder, MineWorldVQConfig
from unified.weight_files import load_strict, read_safetensors

WEIGHTS = "diffusion_pytorch_model.safetensors"
LOWEST, HIGHEST = -30.0, 20.0  # of the logarithm of the variance
_KNOWN = {"act_fn": "silu", "in_channels": 3, "out_channels": 3}
_OPTIONAL = ("quant_conv", "post_quant_conv")  # convolutions that later autoencoders (SD3's) do without
_FORMER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class Posterior:
    """A Gaussian: `mean` and `std` [B, C, h, w]."""

    mean: Tensor
    std: Tensor

    @staticmethod
    def of(moments: Tensor) -> Posterior:
        """From mean and log variance [B, 2 C, h, w]."""
        mean, log_variance = moments.chunk(2, dim=1)
        return Posterior(mean, torch.exp(0.5 * log_variance.clamp(LOWEST, HIGHEST)))

    def sample(self, noise: Tensor) -> Tensor:
        """[B, C, h, w] from standard normal noise of that shape."""
        return self.mean + self.std * noise


class AutoencoderKL(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] -> a Gaussian over latents [B, C, h, w], and back. The decoder's output
    is not clamped."""

    def __init__(self, config: MineWorldVQConfig) -> None:
        super().__init__()
        self.config, self.stride, self.channels = config, config.stride, config.latent
        self.encoder = Encoder(replace(config, latent=2 * config.latent))
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * config.latent, 2 * config.latent, 1)
        self.post_quant_conv = nn.Conv2d(config.latent, config.latent, 1)

    def features(self, images: Tensor) -> Tensor:
        """[B, E, h, w]: what the last convolution of the encoder reads."""
        return self.encoder.features(images)

    def posterior(self, features: Tensor) -> Posterior:
        """Of features [B, E, h, w]."""
        return Posterior.of(self.quant_conv(self.encoder.conv_out(features)))

    def encode(self, images: Tensor) -> Posterior:
        return self.posterior(self.features(images))

    def decode(self, latent: Tensor) -> Tensor:
        """[B, C, h, w] -> images [B, 3, h * stride, w * stride]."""
        found: Tensor = self.decoder(self.post_quant_conv(latent))
        return found


def config_from(options: Mapping[str, Any]) -> MineWorldVQConfig:
    """Options of diffusers -> ours. ValueError for what is missing and for networks of another kind."""
    for name, value in _KNOWN.items():
        if options.get(name, value) != value:
            raise ValueError(f"{name} must be {value!r} in an AutoencoderKL here, got {options[name]!r}")
    if "block_out_channels" not in options:
        raise ValueError("the options of the autoencoder lack block_out_channels")
    return MineWorldVQConfig(
        latent=options.get("latent_channels", 4),
        widths=tuple(options["block_out_channels"]),
        blocks=options.get("layers_per_block", 1),
        groups=options.get("norm_num_groups", 32),
        attention=options.get("mid_block_add_attention", True),
    )


def config_of(weights: Mapping[str, Tensor], groups: int = 32) -> MineWorldVQConfig:
    """What weights under their official names are made for; the number of normalisation groups is not to be
    seen in them. ValueError where they lack the matrices that tell."""
    widths, level = [], 0
    while (name := f"encoder.down_blocks.{level}.resnets.0.conv2.weight") in weights:
        widths.append(weights[name].shape[0])
        level += 1
    if not widths or "post_quant_conv.weight" not in weights:
        raise ValueError("these are no weights of an AutoencoderKL: no encoder.down_blocks, post_quant_conv")
    blocks = 1
    while f"encoder.down_blocks.0.resnets.{blocks}.conv2.weight" in weights:
        blocks += 1
    return MineWorldVQConfig(
        latent=weights["post_quant_conv.weight"].shape[0],
        widths=tuple(widths),
        blocks=blocks,
        groups=groups,
        attention=any(name.startswith("encoder.mid_block.attentions.") for name in weights),
    )


def load(folder: Path) -> AutoencoderKL:
    """The autoencoder of a folder as diffusers saves it (`config.json` and its safetensors), in evaluation
    mode. ValueError, in one line, if a file is missing, damaged or does not fit."""
    config = read_config(folder)
    try:
        model = AutoencoderKL(config_from(config))
        for part in _OPTIONAL:
            if not config.get(f"use_{part}", True):
                setattr(model, part, nn.Identity())
        load_strict(model, current_names(read_safetensors(folder / WEIGHTS)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder}: {error}") from None
    return model.eval()


def current_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Attention had other names in the first releases, and 1 x 1 convolutions for its linear maps."""
    found = {}
    for name, value in weights.items():
        *path, part, kind = name.split(".")
        if "attentions" in path and part in _FORMER:
            name = ".".join([*path, _FORMER[part], kind])
            value = value.flatten(1) if value.dim() == 4 else value
        found[name] = value
    return found
