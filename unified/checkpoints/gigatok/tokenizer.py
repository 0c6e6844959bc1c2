"""GigaTok's tokenizer behind the interface of all visual tokenizers, to be trained and used: images of one
size as lines of codes.

The first codes of a line begin as the mean of the whole image, later ones as finer cells. Semantic
regularisation draws a layer of the decoder to a teacher's features, where training is given a teacher; the
entropy loss is the general one of training. Auxiliary terms are off unless `auxiliary` says for which share
of training they count (the paper's README advises against them). Source: arXiv 2504.08736. Tests:
tests/tokenizers/test_kinds.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.checkpoints.gigatok.network import (
    SEMANTIC_WEIGHT,
    GigaTok,
    GigaTokConfig,
    ReaderConfig,
    semantic_loss,
)
from unified.checkpoints.image_networks import ImageConfig
from unified.tokenizers.kinds import Kind, Wanted
from unified.tokenizers.line import LineTokenizer, check_line, check_side
from unified.tokenizers.quantise import entropy_loss
from unified.tokenizers.resize import Shape, area, flatten
from unified.tokenizers.visual import START, Book, Moment, TrainingPass, check_ids


@dataclass(frozen=True, kw_only=True)
class GigaTokTokenizerConfig:
    """`side` of the images in pixels; `semantic`: weight of the regularisation; `auxiliary`: share of
    training in which the auxiliary terms count."""

    network: GigaTokConfig = field(default_factory=GigaTokConfig)
    side: int = 32
    semantic: float = SEMANTIC_WEIGHT
    auxiliary: float = 0.0

    def __post_init__(self) -> None:
        stride = 2 ** (len(self.network.image.multipliers) - 1)
        grids = (self.network.encoder.side, self.network.decoder.side)
        if any(grid * stride != self.side for grid in grids):
            raise ValueError(
                f"images of {self.side} pixels have grids of {self.side / stride:g}, got {grids}"
            )
        if self.network.encoder.tokens != self.network.decoder.tokens:
            raise ValueError("encoder and decoder must have the same number of tokens")
        if self.semantic < 0 or not 0 <= self.auxiliary <= 1:
            raise ValueError("semantic must not be negative and auxiliary lie in [0, 1]")


class GigaTokTokenizer(LineTokenizer):
    """Images [B, 3, side, side] in [-1, 1] <-> ids [B, line]. The decoder's output is not clamped."""

    def __init__(self, config: GigaTokTokenizerConfig) -> None:
        super().__init__()
        self.config, self.network = config, GigaTok(config.network)
        self.side = self.stride = config.side
        self.line = config.network.encoder.tokens
        self.codes, self.dim = config.network.codes, config.network.dim

    def codebook(self) -> Tensor:
        """The rows [codes, dim], of length 1."""
        return self.network.quantize.rows()

    def vectors(self, ids: Tensor) -> Tensor:
        check_ids(ids, self.codes)
        return self.network.quantize.entries(ids)

    @torch.no_grad()
    def encode(self, images: Tensor, shapes: Sequence[Shape] | None = None) -> list[Tensor]:
        """Ids [B, line] of the only map."""
        check_side(images, self.side)
        check_line(shapes, self.line)
        return [self.network.encode(images.to(self._dtype()))]

    def books(self) -> list[Book]:
        return [Book(self.network.quantize.embedding.weight)]

    def training_pass(
        self, images: Tensor, shapes: Sequence[Shape], entropy: float = 0.0, moment: Moment = START
    ) -> TrainingPass:
        """Through the rotation trick; `moment.features` are the teacher's, of any grid."""
        check_side(images, self.side)
        grid = self.network.encoder(images)
        latent = self.network.quant_conv(self.network.s2to1encoder(grid)).float()
        quantised = self.network.quantise(latent)
        decoded = self.network.decode_vectors(quantised.output)
        loss, terms = quantised.loss, {}
        vectors = latent.flatten(2).transpose(1, 2)
        if entropy:
            units = F.normalize(vectors.flatten(0, 1), dim=-1)
            loss = loss + entropy * entropy_loss(units, self.codebook())
        if moment.features is not None and self.config.semantic:
            places = self.config.network.decoder.side
            teacher = flatten(area(moment.features.float(), (places, places)))
            terms["semantic"] = 1 + semantic_loss(decoded.features, teacher)
            loss = loss + self.config.semantic * terms["semantic"]
        if moment.progress < self.config.auxiliary:
            terms["direct"] = F.mse_loss(self.network.decoder(grid), images)
            terms["grid"] = F.mse_loss(grid.detach(), decoded.spatial)
            loss = loss + terms["direct"] + terms["grid"]
        found = vectors.detach().flatten(0, 1)
        return TrainingPass([decoded.images], [quantised.ids], [found], loss, terms)

    def _decoded(self, vectors: Tensor) -> Tensor:
        return self.network.decode_vectors(vectors.to(self._dtype())).images

    def _dtype(self) -> torch.dtype:
        return self.network.quant_conv.weight.dtype


def of_network(network: GigaTok, config: GigaTokConfig) -> GigaTokTokenizer:
    """A tokenizer around a published network."""
    stride = 2 ** (len(config.image.multipliers) - 1)
    tokenizer = GigaTokTokenizer(GigaTokTokenizerConfig(network=config, side=config.encoder.side * stride))
    tokenizer.network = network
    return tokenizer


def _small(wanted: Wanted) -> GigaTokTokenizerConfig:
    levels = wanted.stride.bit_length()
    width = 2 * wanted.width

    def reader(layers: int) -> ReaderConfig:
        heads = max(1, width // 32)
        return ReaderConfig(width=width, layers=layers, heads=heads, tokens=wanted.tokens, side=wanted.cells)

    network = GigaTokConfig(
        image=ImageConfig(
            latent=width, width=wanted.width, multipliers=(1,) * levels, attention=False, modulated=True
        ),
        codes=wanted.codes,
        dim=wanted.dim,
        encoder=reader(2),
        decoder=reader(3),
        distill=2,
        teacher=max(1, wanted.features),
    )
    return GigaTokTokenizerConfig(network=network, side=wanted.size)


KIND = Kind(config=GigaTokTokenizerConfig, build=GigaTokTokenizer, small=_small, restarts=True)
