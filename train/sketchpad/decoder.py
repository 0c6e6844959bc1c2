"""Training of a sketch decoder: vision encoder and autoencoder stay frozen, the aligner learns.

The features are those that a vision head predicts, normalised by the connector, of any model that a
`Sketchpad` has. Losses: `unified.checkpoints.sketch_losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from unified.tokenizers.images import to_images
from unified.train.sketchpad.drawings import Picture

from unified.checkpoints.sketch_decoder import SketchDecoder
from unified.checkpoints.sketch_losses import sketch_losses
from unified.finite import check_count, check_number
from unified.vision_language.processor import PretrainedProcessor
from unified.vision_language.sketchpad.model import Sketchpad

Features = Callable[[Sequence[np.ndarray]], Tensor]  # uint8 pictures -> [B, L, C]


@dataclass(frozen=True, kw_only=True)
class DecoderTrainingConfig:
    """Published: Adam at 1e-4, gradients clipped at 1, 16 to 48 rows, 10 epochs."""

    learning_rate: float = 1e-4
    epochs: float = 10.0
    rows: int = 16
    accumulation: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("learning_rate", self.learning_rate, 0)
        check_number("epochs", self.epochs, 0)
        check_count("rows", self.rows, 1)
        check_count("accumulation", self.accumulation, 1)
        check_count("seed", self.seed)


def features_by(pad: Sketchpad, processor: PretrainedProcessor) -> Features:
    """The normalised features of pictures by a model's own vision encoder."""

    @torch.no_grad()
    def made(pictures: Sequence[np.ndarray]) -> Tensor:
        images = pad.encode(processor.pixels(pictures))
        return torch.stack([latents.vision for latents in pad.latents(images)])

    return made


class DecoderTraining(nn.Module):
    """`forward` is what a trainer calls. The sketch decoder's autoencoder is frozen by the decoder itself."""

    def __init__(self, decoder: SketchDecoder, features: Features, seed: int = 0) -> None:
        super().__init__()
        self.decoder, self.features = decoder, features
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, samples: Sequence[Picture]) -> dict[str, Tensor]:
        """The sum of the losses for some pictures of the decoder's size."""
        device = self.decoder.aligner.encoder_query.device
        pixels = torch.cat([to_images(sample.pixels) for sample in samples]).to(device)
        masks = torch.stack([torch.from_numpy(sample.foreground) for sample in samples])
        foreground = masks[:, None].expand_as(pixels).to(pixels)
        config = self.decoder.config
        shape = (2, len(samples), config.channels, config.grid, config.grid)
        noise = torch.randn(shape, generator=self.generator).to(device)
        features = self.features([sample.shown for sample in samples])
        losses = sketch_losses(self.decoder, features, pixels, foreground, (noise[0], noise[1]))
        return {"loss": losses.total}
