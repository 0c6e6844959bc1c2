"""Infinity's tokenizer: an image as maps of bits, each holding the signs of what the maps before leave
(arXiv 2412.04431).

A code is the bits of a token, and its vector is computed from them: 2**32 codes have no table. The last map
has the latent's size; any schedule is a runtime argument. Source: FoundationVision/Infinity (MIT),
infinity/models/bsq_vae. Different from the published code: codes are ids, so tokens of more than 62 bits are
for `encode_bits` and `decode_bits` alone. Its training is not released. Tests:
tests/unified/checkpoints/test_infinity_tokenizer.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unified.checkpoints.infinity_bits import BitGrid, areas
from unified.checkpoints.infinity_decoder import DecoderConfig, InfinityDecoder
from unified.checkpoints.infinity_encoder import InfinityEncoder
from unified.checkpoints.state_dict import check_fit, unwrap
from unified.heads.bitwise import bits_of, codes_of
from unified.orders.shapes import Shapes, as_shapes
from unified.tokenizers.feeds import MapFeed
from unified.tokenizers.visual import check_ids, check_images, check_maps

RELEASED = (14, 16, 18, 20, 24, 32, 64)  # bits of a latent cell
MASKS = ("quantizer.lfq.mask", "quantize.lfq.mask")  # powers of two, the first bit's the largest
MOST = 62  # bits of an id


@dataclass(frozen=True, kw_only=True)
class InfinityTokenizerConfig:
    """`bits` of a latent cell, which stands for `patch` x `patch` pixels; with `patchify` a token holds 2 x 2
    cells. `blocks` a level of the encoder, one more in the decoder; `encoder` and `decoder`: multipliers of
    `width`, from the pixels to the latent."""

    bits: int = 8
    patch: int = 4
    width: int = 32
    blocks: int = 1
    encoder: tuple[int, ...] = (1, 1, 1)
    decoder: tuple[int, ...] = (1, 1, 1)
    patchify: bool = False

    def __post_init__(self) -> None:
        if self.bits < 1:
            raise ValueError(f"a cell needs at least one bit, got {self.bits}")
        for multipliers in (self.encoder, self.decoder):
            self.half(multipliers)

    def half(self, multipliers: tuple[int, ...]) -> DecoderConfig:
        """The sizes of the encoder or the decoder."""
        return DecoderConfig(
            latent=self.bits,
            patch=self.patch,
            width=self.width,
            multipliers=tuple(multipliers),
            blocks=self.blocks,
        )


def released(bits: int) -> InfinityTokenizerConfig:
    """A released tokenizer: 16, 18, 20, 24, 32 (the 2B model's) or 64 bits for 16 x 16 pixels, or 14 bits for
    8 x 8, four cells a token (the 8B model's)."""
    if bits not in RELEASED:
        raise ValueError(f"released are tokenizers of {', '.join(map(str, RELEASED))} bits, got {bits}")
    fine = bits == 14
    levels = (1, 2, 4, 4) if fine else (1, 2, 4, 4, 4)
    return InfinityTokenizerConfig(
        bits=bits, patch=8 if fine else 16, width=128, blocks=2, encoder=levels, decoder=levels, patchify=fine
    )


class InfinityTokenizer(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] <-> bits or ids of maps. Shapes are of tokens."""

    def __init__(self, config: InfinityTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = BitGrid(config.bits, 2 if config.patchify else 1)
        self.dim, self.codes = self.grid.token_bits, 2**self.grid.token_bits
        self.stride = config.patch * self.grid.side
        self.encoder = InfinityEncoder(config.half(config.encoder))
        self.decoder = InfinityDecoder(config.half(config.decoder))

    def latent(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> continuous map [B, d, H / patch, W / patch]."""
        check_images(images, self.stride)
        return self.encoder(images.to(self.encoder.conv_in.weight.dtype))

    # Bits ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode_bits(self, images: Tensor, shapes: Sequence[Sequence[int]] | None = None) -> Tensor:
        """Bits [B, T, S] int64 of all maps, of which the last must have the image's own size (None: it
        alone)."""
        return self.grid.labels(self.latent(images).float(), self._maps(images, shapes))

    def decode_bits(self, bits: Tensor, shapes: Sequence[Sequence[int]]) -> Tensor:
        """Bits [B, T, S] -> images in [-1, 1]. ValueError for another number of them."""
        maps = as_shapes(shapes)
        if bits.shape[1:] != (sum(areas(maps)), self.dim):
            want = f"[B, {sum(areas(maps))}, {self.dim}]"
            raise ValueError(f"the maps {maps} need bits {want}, got {tuple(bits.shape)}")
        return self.decode_vectors(self.grid.summed(self.grid.vectors(bits), maps))

    # Ids, as every visual tokenizer has them ----------------------------------------------------------------

    def encode(self, images: Tensor, shapes: Sequence[Sequence[int]] | None = None) -> list[Tensor]:
        """Ids [B, h * w] of each map."""
        self._check_ids()
        bits = self.encode_bits(images, shapes)
        return list(codes_of(bits).split(areas(self._maps(images, shapes)), dim=1))

    def decode(self, ids: Sequence[Tensor], shapes: Sequence[Sequence[int]]) -> Tensor:
        """Ids [B, h * w] of each map -> images in [-1, 1]."""
        maps = as_shapes(shapes)
        check_maps(ids, maps)
        return self.decode_vectors(self.grid.summed(self.vectors(torch.cat(list(ids), dim=1)), maps))

    decode_maps = decode

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """The sum of all maps' vectors [B, d, h, w], of any dtype -> images in [-1, 1]."""
        return self.decoder(vectors.to(self.decoder.conv_in.weight.dtype))

    def vectors(self, ids: Tensor) -> Tensor:
        """Vectors [..., S] of ids [...]."""
        self._check_ids()
        check_ids(ids, self.codes)
        return self.grid.vectors(bits_of(ids, self.dim))

    def feed(self, shapes: Sequence[Sequence[int]]) -> MapFeed:
        """What the slots of these maps are fed, of vectors [B, T, S]."""
        return self.grid.feed(as_shapes(shapes))

    def transformer_inputs(self, ids: Sequence[Tensor], shapes: Sequence[Sequence[int]]) -> Tensor:
        """What predicts map s + 1: the sum so far, resized. Ids [B, h * w] per map -> [B, T - first, S]."""
        maps = as_shapes(shapes)
        check_maps(ids, maps)
        feed = self.grid.feed(maps)
        return feed.inputs(self.vectors(torch.cat(list(ids), dim=1)), feed.later)

    def read_shapes(self, shapes: Sequence[Sequence[int]]) -> Shapes:
        """An image is read from all its maps: none is complete by itself."""
        return as_shapes(shapes)

    def _maps(self, images: Tensor, shapes: Sequence[Sequence[int]] | None) -> Shapes:
        own = (images.shape[2] // self.stride, images.shape[3] // self.stride)
        return (own,) if shapes is None else as_shapes(shapes)

    def _check_ids(self) -> None:
        if self.dim > MOST:
            raise ValueError(
                f"a token of {self.dim} bits does not fit an id: use encode_bits and decode_bits"
            )


def load(config: InfinityTokenizerConfig, state_dict: Mapping[str, Any]) -> InfinityTokenizer:
    """A published tokenizer from its state dict (wrappers are followed, parts beside encoder and decoder
    passed over), in eval mode. ValueError with a short reason if the weights do not fit."""
    published = unwrap(state_dict, "tokenizer")
    _check_masks(published, config.bits)
    found = {
        re.sub(r"\.(conv|norm)\.(\w+)$", r".\2", name): value
        for name, value in published.items()
        if name.startswith(("encoder.", "decoder."))
    }
    with torch.device("meta"):
        tokenizer = InfinityTokenizer(config)
    check_fit(tokenizer.state_dict(), found)
    copies = {name: value.to(torch.float32, copy=True) for name, value in found.items()}
    tokenizer.load_state_dict(copies, assign=True)
    return tokenizer.eval()


def _check_masks(state_dict: Mapping[str, Tensor], bits: int) -> None:
    """ValueError if bits are counted in another order than here."""
    want = [2**place for place in reversed(range(bits))]
    for name in MASKS:
        if name in state_dict and bits <= MOST and state_dict[name].flatten().tolist() != want:
            raise ValueError(f"weights do not fit: expected {name} to be {want[0]}, ..., 2, 1")
