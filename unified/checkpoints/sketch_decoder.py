"""The Sketch Decoder: features of a vision encoder -> a picture.

A transformer with learned queries turns the features into what the last convolution of a frozen autoencoder's
encoder reads; its own copy of that convolution gives a Gaussian over latents, which the autoencoder decodes.
Zhang et al., "Latent Sketchpad", arXiv 2510.24514; code hwanyu112/Latent-Sketchpad (MIT), revision 2d67b31,
whose names of parameters are kept. Tests: tests/unified/checkpoints/test_sketch_decoder.py and, against the
published outputs, test_latent_sketchpad.py.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unified.checkpoints.autoencoder_kl import AutoencoderKL, Posterior, config_of
from unified.checkpoints.sketch_decoder_layers import Layer
from unified.finite import check_tree
from unified.text_files import read_object
from unified.weight_files import load_strict, read_safetensors

CONFIG, WEIGHTS = "sketch_decoder.json", "sketch_decoder.safetensors"
FIRST_PLACE = 2  # rows of the table of positions before it belong to padding, as in fairseq


@dataclass(frozen=True, kw_only=True)
class SketchDecoderConfig:
    """`features`: width of the vision encoder's features, of which an image has at most `position_rows` - 2.
    The picture is `grid` x `grid` latents. `width`: of what the autoencoder's last convolution reads.
    Published: 12 layers of 8 heads in each half, width 512, inner 3072, grid 28, 32768 rows."""

    features: int = 24
    width: int = 32
    heads: int = 8
    layers: int = 2
    inner: int = 48
    grid: int = 4
    position_rows: int = 32
    channels: int = 4

    def __post_init__(self) -> None:
        check_tree(self)
        if not all(type(value) is int and value > 0 for value in asdict(self).values()):
            raise ValueError(f"sizes of a sketch decoder must be whole numbers from 1, got {self}")
        if self.width % self.heads or self.position_rows <= FIRST_PLACE:
            raise ValueError(
                f"width {self.width} must be a multiple of {self.heads} heads, position_rows above "
                f"{FIRST_PLACE}, got {self.position_rows}"
            )


@dataclass(frozen=True)
class Aligned:
    """`dense` [B, g * g, E] in place of the autoencoder's own, and the Gaussian that follows from it."""

    dense: Tensor
    posterior: Posterior


class Aligner(nn.Module):
    """Features [B, L, C] -> a Gaussian over latents [B, channels, g, g]."""

    def __init__(self, config: SketchDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder_proj = FeatureEncoder(config)
        self.encoder_query = nn.Parameter(torch.randn(config.grid**2, config.width) * config.width**-0.5)
        self.encoder = QueryDecoder(config)
        self.conv_out = nn.Conv2d(config.width, 2 * config.channels, 3, padding=1)
        self.quant_conv = nn.Conv2d(2 * config.channels, 2 * config.channels, 1)

    def forward(self, features: Tensor) -> Aligned:
        """ValueError for features of another width, or for more than there are positions."""
        config = self.config
        count, width, most = features.shape[1], features.shape[2], config.position_rows - FIRST_PLACE
        if width != config.features or count > most:
            raise ValueError(
                f"{count} features of width {width}: the sketch decoder takes at most {most} of width "
                f"{config.features}"
            )
        memory = self.encoder_proj(features)
        dense = self.encoder(self.encoder_query.expand(len(features), -1, -1), memory)
        places = dense.transpose(1, 2).unflatten(2, (config.grid, config.grid))
        return Aligned(dense, Posterior.of(self.quant_conv(self.conv_out(places))))


class FeatureEncoder(nn.Module):
    def __init__(self, config: SketchDecoderConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Linear(config.features, config.width)
        self.embed_positions = nn.Embedding(config.position_rows, config.width)
        self.layers = nn.ModuleList(
            Layer(config.width, config.heads, config.inner, cross=False) for _ in range(config.layers)
        )
        self.layer_norm = nn.LayerNorm(config.width)

    def forward(self, features: Tensor) -> Tensor:
        """[B, L, C] -> [B, L, E]."""
        places = torch.arange(FIRST_PLACE, FIRST_PLACE + features.shape[1], device=features.device)
        x = self.embed_tokens(features) + self.embed_positions(places)
        for layer in self.layers:
            x = layer(x)
        found: Tensor = self.layer_norm(x)
        return found


class QueryDecoder(nn.Module):
    def __init__(self, config: SketchDecoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(config.width, config.heads, config.inner, cross=True) for _ in range(config.layers)
        )
        self.layer_norm = nn.LayerNorm(config.width)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """[B, g * g, E] that attend to memory [B, L, E]."""
        for layer in self.layers:
            queries = layer(queries, memory)
        found: Tensor = self.layer_norm(queries)
        return found


class SketchDecoder(nn.Module):
    """The aligner and the autoencoder, which is frozen. ValueError if they do not fit each other."""

    def __init__(self, config: SketchDecoderConfig, vae: AutoencoderKL) -> None:
        super().__init__()
        width, channels = vae.config.widths[-1], vae.channels
        if (config.width, config.channels) != (width, channels):
            raise ValueError(
                f"the autoencoder has width {width} and {channels} channels, the sketch decoder "
                f"{config.width} and {config.channels}"
            )
        self.config = config
        self.aligner, self.vae = Aligner(config), vae.requires_grad_(False)
        for name, own in (("conv_out", vae.encoder.conv_out), ("quant_conv", vae.quant_conv)):
            getattr(self.aligner, name).load_state_dict(own.state_dict())
            getattr(self.aligner, name).requires_grad_(False)

    @property
    def size(self) -> int:
        """Height and width of the pictures in pixels."""
        return self.config.grid * self.vae.stride

    def forward(self, features: Tensor) -> Aligned:
        found: Aligned = self.aligner(features)
        return found

    @torch.no_grad()
    def decode(self, features: Tensor) -> Tensor:
        """Features [B, L, C] -> pictures [B, 3, size, size] in [-1, 1], from the mean latents."""
        return self.vae.decode(self(features).posterior.mean).clamp(-1, 1)


# Files ------------------------------------------------------------------------------------------------------


def save(folder: Path, decoder: SketchDecoder) -> None:
    """`sketch_decoder.json` and `sketch_decoder.safetensors`, the autoencoder's weights among them."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in decoder.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    options = {**asdict(decoder.config), "groups": decoder.vae.config.groups}
    (folder / CONFIG).write_text(json.dumps(options, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> SketchDecoder:
    """What `save` wrote, in evaluation mode. ValueError, in one line, if a file is missing, damaged or does
    not fit."""
    options = read_object(folder / CONFIG)
    groups = options.pop("groups", 32)
    weights = read_safetensors(folder / WEIGHTS)
    try:
        return build(options, groups, weights)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / WEIGHTS}: {error}") from None


def build(options: dict[str, Any], groups: int, weights: dict[str, Tensor]) -> SketchDecoder:
    """From weights under `aligner.` and `vae.`; ValueError unless all are there and fit."""
    own = {name.removeprefix("vae."): value for name, value in weights.items() if name.startswith("vae.")}
    with torch.device("meta"):
        decoder = SketchDecoder(SketchDecoderConfig(**options), AutoencoderKL(config_of(own, groups)))
    decoder.to_empty(device="cpu")
    load_strict(decoder, weights)
    return decoder.eval()
