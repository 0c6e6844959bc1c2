"""Selftok's published tokenizer behind the interface of all visual tokenizers: images of one size as lines of
codes, by way of another autoencoder's latents.

The folder has the networks' `config.json` and `weights.safetensors`, and in `vae` the autoencoder as
diffusers saves it (SD3's). Lines lie in the order in which they are generated, coarse first. Decoding starts
from one fixed noise, so an image is a function of its codes. Different from the release: latents are the
means of the autoencoder's Gaussians, not drawn; no guidance and no one-step renderer. Source: arXiv
2505.07538. Test: tests/unified/checkpoints/test_published_tokenizers.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints import autoencoder_kl
from unified.checkpoints.folder import read_config
from unified.checkpoints.selftok.network import Selftok, sample
from unified.checkpoints.selftok.schedule import Schedule
from unified.checkpoints.selftok.verify import load as load_networks
from unified.tokenizers.line import LineTokenizer, check_line, check_side
from unified.tokenizers.resize import Shape

AUTOENCODER = "vae"  # its folder
SCALING, SHIFT = 0.18215, 0.0  # of diffusers, where its options have none


class LatentSelftok(LineTokenizer):
    """Images [B, 3, side, side] in [-1, 1] <-> ids [B, line], coarse first. `scale`: the shift that is taken
    from latents, and the factor on the rest. The decoder's output is not clamped."""

    def __init__(
        self,
        network: Selftok,
        autoencoder: autoencoder_kl.AutoencoderKL,
        schedule: Schedule,
        steps: int,
        scale: tuple[float, float] = (SHIFT, SCALING),
    ) -> None:
        super().__init__()
        config = network.config
        if autoencoder.channels != config.latent[0]:
            raise ValueError(
                f"the tokenizer reads latents of {config.latent[0]} channels, the autoencoder's have "
                f"{autoencoder.channels}"
            )
        if schedule.codes != config.codes:
            raise ValueError(f"the schedule has {schedule.codes} codes, the network {config.codes}")
        self.network, self.autoencoder = network, autoencoder
        self.schedule, self.steps, self.scale = schedule, steps, scale
        self.side = self.stride = config.latent[1] * autoencoder.stride
        self.line = config.codes
        self.codes, self.dim = config.codebook

    def codebook(self) -> Tensor:
        """The rows [codes, dim], of length 1."""
        return self.network.encoder.quantizer._codebook.embed[0]

    def latent(self, images: Tensor) -> Tensor:
        """[B, C, side / 8, side / 8], shifted and scaled."""
        shift, factor = self.scale
        return factor * (self.autoencoder.encode(images).mean - shift)

    @torch.no_grad()
    def encode(self, images: Tensor, shapes: Sequence[Shape] | None = None) -> list[Tensor]:
        """Ids [B, line] of the only map."""
        check_side(images, self.side)
        check_line(shapes, self.line)
        found = self.latent(images.to(self._dtype()))
        return [self.network.encoder.encode(found).flip(1)]

    @torch.no_grad()
    def _decoded(self, vectors: Tensor) -> Tensor:
        """Vectors [B, line, dim], coarse first."""
        encoder, (channels, side) = self.network.encoder, self.network.config.latent
        project = encoder.quantizer.project_out
        tokens = encoder.final_layer_norm3(project(vectors.flip(1).to(self._dtype())))
        fixed = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0))
        noise = fixed.to(tokens).expand(len(tokens), -1, -1, -1)
        shift, factor = self.scale
        latent = sample(self.network.model, noise, tokens, self.schedule, self.steps)
        return self.autoencoder.decode(latent / factor + shift)

    def _dtype(self) -> torch.dtype:
        return self.network.encoder.query_tokens.dtype


def load(folder: Path, config: Mapping[str, Any]) -> LatentSelftok:
    """In eval mode. ValueError without the autoencoder, or where the two do not fit."""
    inner = folder / AUTOENCODER
    if not (inner / "config.json").is_file():
        raise ValueError(
            f"{folder}: Selftok's networks read the latents of another autoencoder: put its folder, as "
            f"diffusers saves it, there as {AUTOENCODER}"
        )
    options = read_config(inner)
    scale = (float(options.get("shift_factor") or SHIFT), float(options.get("scaling_factor") or SCALING))
    schedule = Schedule.parse(config["stages"], config["k_per_stage"])
    try:
        autoencoder = autoencoder_kl.load(inner)
        found = LatentSelftok(load_networks(folder), autoencoder, schedule, int(config["steps"]), scale)
    except KeyError as error:
        raise ValueError(f"{folder}: config.json lacks {error}") from None
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(folder)) else f"{folder}: {text}") from None
    return found.eval()
