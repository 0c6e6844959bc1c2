"""A continuous tokenizer: an autoencoder whose latent is a Gaussian near the standard one (KL-VAE).

The encoder gives mean and log-variance of every channel; training decodes a sample and adds the
Kullback-Leibler divergence from N(0, 1), weighted little (latent diffusion: Rombach et al., arXiv
2112.10752). There are no codes: `encode` and `decode_maps` of other tokenizers have no meaning here, latents
do. `train.tokenizer` trains it like the others. Tests: tests/tokenizers/test_kl.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from .kinds import Kind, Wanted
from .networks import Decoder, Encoder, NetworkConfig
from .resize import Shape
from .visual import START, Moment, TrainingPass, check_images

WIDEST = 20.0  # of the absolute log-variance
KEPT = 0.99  # of the running averages of latents at every pass


@dataclass(frozen=True, kw_only=True)
class KLConfig:
    """`network.latent` channels of the latent; `weight` of the divergence, in nats a channel of a place,
    beside pixels."""

    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(latent=8))
    weight: float = 1e-4

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"weight must not be negative, got {self.weight}")


class KLTokenizer(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] <-> latents [B, dim, H / stride, W / stride]. The decoder's output is
    not clamped."""

    codes = 0
    table = None
    passes: Tensor
    averages: Tensor

    def __init__(self, config: KLConfig) -> None:
        super().__init__()
        self.config = config
        self.dim, self.stride = config.network.latent, config.network.stride
        self.encoder = Encoder(replace(config.network, latent=2 * self.dim))
        self.decoder = Decoder(config.network)
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))  # of training: seeds the noise
        self.register_buffer("averages", torch.zeros(2, self.dim))  # of means and of their squares

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent, each [B, dim, h, w]."""
        check_images(images, self.stride, self.config.network.channels)
        mean, spread = self.encoder(images).float().chunk(2, dim=1)
        return mean, spread.clamp(-WIDEST, WIDEST)

    def latent(self, images: Tensor) -> Tensor:
        """The mean [B, dim, h, w]."""
        return self.moments(images)[0]

    def measured(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [dim] of latents, as training saw them last; 0 and 1 of one that
        was not trained."""
        if not self.averages.any():
            return torch.zeros(self.dim), torch.ones(self.dim)
        seen = 1 - KEPT ** max(int(self.passes), 1)
        mean, square = (self.averages.float().cpu() / seen).unbind()
        return mean, (square - mean.square()).clamp(min=1e-8).sqrt()

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """Latents [B, dim, h, w] -> images [B, 3, h * stride, w * stride]."""
        found: Tensor = self.decoder(vectors)
        return found

    def training_shapes(self, images: Tensor, count: int, generator: torch.Generator) -> list[Shape]:
        """None: there are no maps of codes."""
        return []

    def training_pass(
        self, images: Tensor, shapes: Sequence[Shape], entropy: float = 0.0, moment: Moment = START
    ) -> TrainingPass:
        """Reconstruct a sample of the latent. Without `moment.noise` the noise is a function of the number of
        passes so far: a resumed training draws the same. ValueError for an entropy term."""
        if entropy:
            raise ValueError("a continuous tokenizer has no entropy term: set entropy to 0")
        mean, spread = self.moments(images)
        generator = moment.noise or torch.Generator().manual_seed(int(self.passes))
        self.passes += 1
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        sample = mean + torch.exp(0.5 * spread) * noise
        with torch.no_grad():
            found = torch.stack([mean.mean(dim=(0, 2, 3)), mean.square().mean(dim=(0, 2, 3))])
            self.averages.lerp_(found.to(self.averages), 1 - KEPT)
        divergence = 0.5 * (mean.square() + spread.exp() - 1 - spread).mean()
        return TrainingPass(
            images=[self.decode_vectors(sample)], ids=[], candidates=[], loss=self.config.weight * divergence
        )


def _with_averages(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights saved before latents were measured."""
    channels = state["decoder.conv_in.weight"].shape[1] if "decoder.conv_in.weight" in state else 0
    return {"averages": torch.zeros(2, channels), **state}


def _small(wanted: Wanted) -> KLConfig:
    return KLConfig(network=wanted.network())


KIND = Kind(config=KLConfig, build=KLTokenizer, small=_small, change=_with_averages)
