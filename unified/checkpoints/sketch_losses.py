"""What a Sketch Decoder is trained to minimise: focal, likelihood, deviation and embedding losses.

Source: see `sketch_decoder`. All have weight 1. Noise is handed in, so a loss can be computed again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.checkpoints.autoencoder_kl import Posterior
from unified.checkpoints.sketch_decoder import SketchDecoder

FAR = 0.1  # a pixel that is off by as much counts twice
LEAST_VARIANCE = 1e-5  # published: cut off at 1e-6, then at 1e-5


@dataclass(frozen=True)
class SketchLosses:
    focal: Tensor
    nll: Tensor
    std: Tensor
    embed: Tensor

    @property
    def total(self) -> Tensor:
        return self.focal + self.nll + self.std + self.embed


@dataclass(frozen=True)
class SketchTarget:
    """What the frozen autoencoder makes of the true pictures."""

    dense: Tensor  # [B, g * g, E]
    posterior: Posterior


@torch.no_grad()
def target_of(decoder: SketchDecoder, pixels: Tensor) -> SketchTarget:
    """Of pictures [B, 3, size, size] in [-1, 1]."""
    features = decoder.vae.features(pixels)
    return SketchTarget(features.flatten(2).transpose(1, 2), decoder.vae.posterior(features))


def sketch_losses(
    decoder: SketchDecoder,
    features: Tensor,
    pixels: Tensor,
    foreground: Tensor,
    noise: tuple[Tensor, Tensor],
) -> SketchLosses:
    """Features [B, L, C] of pictures [B, 3, size, size] in [-1, 1]; `foreground`: 1 where a pixel differs
    from the background, of the same shape; `noise`: standard normal, for the predicted latents and for those
    of the autoencoder [B, channels, g, g]."""
    target, found = target_of(decoder, pixels), decoder(features)
    predicted, true = found.posterior, target.posterior
    return SketchLosses(
        focal=focal_loss(decoder.vae.decode(predicted.sample(noise[0])), pixels, foreground),
        nll=nll_loss(predicted, true.sample(noise[1])),
        std=F.mse_loss(predicted.std, true.std),
        embed=F.mse_loss(found.dense, target.dense),
    )


def focal_loss(decoded: Tensor, pixels: Tensor, foreground: Tensor) -> Tensor:
    """Squared error over all pixels, twice where they are far off, over the size of the foreground; the plain
    mean where there is hardly any."""
    error = (decoded - pixels).square()
    weighted = error * (1 + ((decoded - pixels).abs() >= FAR).to(error))
    size = foreground.sum()
    return weighted.sum() / size if size > 1 else error.mean()


def nll_loss(predicted: Posterior, latent: Tensor) -> Tensor:
    """Mean Gaussian negative log-likelihood of latents [B, C, h, w], without its constant, not below 0."""
    variance = predicted.std.square().clamp(min=LEAST_VARIANCE)
    nll = 0.5 * (variance.log() + (predicted.mean - latent).square() / variance)
    return nll.mean().clamp(min=0)
