"""The autoencoder with a Gaussian latent under the names of its first releases (latent diffusion; KL-16 of
MAR, which xAR, TokenBridge, Harmon and UniPic share).

Rombach et al., arXiv 2112.10752. The networks are those of VQ-GAN tokenizers (`tokenizers/networks.py`),
whose names these are but for the levels of the decoder, which are counted by resolution. Folders of diffusers
are read by `autoencoder_kl.py`. Tests: tests/unified/checkpoints/test_latent_autoencoder.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from unified.checkpoints.autoencoder_kl import Posterior
from unified.checkpoints.state_dict import load_strict, unwrap
from unified.tokenizers.networks import Decoder, Encoder, NetworkConfig

DROPPED = ("loss.", "model_ema.", "logvar")  # of the discriminator and of what training kept


@dataclass(frozen=True, kw_only=True)
class LatentAutoencoderConfig:
    """`network`: of encoder and decoder, `network.latent` channels between them and the 1 x 1 convolutions;
    `channels` of the latent."""

    network: NetworkConfig
    channels: int = 16


class LatentAutoencoder(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] -> a Gaussian over latents [B, C, h, w], and back. The decoder's output
    is not clamped, and latents are not scaled."""

    def __init__(self, config: LatentAutoencoderConfig) -> None:
        super().__init__()
        self.config, self.stride, self.channels = config, config.network.stride, config.channels
        inner = config.network.latent
        self.encoder = Encoder(replace(config.network, latent=2 * inner))
        self.decoder = Decoder(config.network)
        self.quant_conv = nn.Conv2d(2 * inner, 2 * config.channels, 1)
        self.post_quant_conv = nn.Conv2d(config.channels, inner, 1)

    def encode(self, images: Tensor) -> Posterior:
        return Posterior.of(self.quant_conv(self.encoder(images)))

    def decode(self, latent: Tensor) -> Tensor:
        """[B, C, h, w] -> images [B, 3, h * stride, w * stride]."""
        found: Tensor = self.decoder(self.post_quant_conv(latent))
        return found


def load(loaded: object) -> LatentAutoencoder:
    """The autoencoder of published weights (wrappers are followed), in evaluation mode. ValueError with a
    short reason if they do not fit."""
    found = unwrap(loaded, "tokenizer")
    state = {name: value for name, value in found.items() if not name.startswith(DROPPED)}
    config = config_of(state)
    model = LatentAutoencoder(config)
    load_strict(model, state, lambda name: our_name(name, len(config.network.multipliers)))
    return model.eval()


def config_of(state: Mapping[str, Tensor]) -> LatentAutoencoderConfig:
    """The sizes of published weights. ValueError where they lack the matrices that tell."""
    width, widths = _kernel(state, "encoder.conv_in.weight")[0], list[int]()
    while (name := f"encoder.down.{len(widths)}.block.0.conv2.weight") in state:
        widths.append(state[name].shape[0])
    if not widths:
        raise ValueError("weights do not fit: there are no levels encoder.down")
    blocks = 0
    while f"encoder.down.0.block.{blocks}.conv2.weight" in state:
        blocks += 1
    inner, channels = _kernel(state, "post_quant_conv.weight")
    attended = {int(found[1]) for name in state if (found := re.match(r"encoder\.down\.(\d+)\.attn\.", name))}
    if attended - {len(widths) - 1}:
        raise ValueError("weights do not fit: attention stands at other levels than the lowest")
    if any(other % width for other in widths):
        raise ValueError(f"weights do not fit: widths {widths} are no multiples of {width}")
    network = NetworkConfig(
        latent=inner,
        width=width,
        multipliers=tuple(other // width for other in widths),
        blocks=blocks,
        attention=bool(attended),
    )
    return LatentAutoencoderConfig(network=network, channels=channels)


def _kernel(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """Outputs and inputs of a convolution. ValueError if it is missing or none."""
    if name not in state or state[name].dim() != 4:
        raise ValueError(f"weights do not fit: there is no convolution {name}")
    return state[name].shape[0], state[name].shape[1]


def our_name(name: str, levels: int) -> str:
    """The name of a published weight in `LatentAutoencoder`, and the inverse."""
    return re.sub(r"^decoder\.up\.(\d+)", lambda found: f"decoder.up.{levels - 1 - int(found[1])}", name)


def official(model: LatentAutoencoder) -> dict[str, Tensor]:
    """The weights of a model under their published names."""
    levels = len(model.config.network.multipliers)
    return {our_name(name, levels): value for name, value in model.state_dict().items()}
