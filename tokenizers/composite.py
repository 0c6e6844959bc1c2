"""Semantic codes before pixel codes: a line of codes of a coarse grid that say what is where, then those of a
fine grid from which the image is decoded.

The semantic encoder is distilled: one linear map of its codes predicts the features of a teacher, where
training is given one, else the image averaged to its grid. So no teacher is needed to encode. Semantic
codes are a plan for a generator and play no part in decoding. Source: Bridge (arXiv 2510.01546), whose
sequence this is and which quantises a vision encoder's own features.
Tests: tests/tokenizers/test_composite.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kinds import Kind, Wanted
from .line import LineTokenizer, check_line, check_side
from .networks import NetworkConfig
from .resize import Shape, area
from .visual import START, Book, Moment, TrainingPass
from .vq import VQConfig, VQTokenizer


@dataclass(frozen=True, kw_only=True)
class CompositeConfig:
    """`side` of the images in pixels; the `semantic` and the `pixel` tokenizer, of equal code width;
    `features`: channels of the teacher, 0 for the colours of the image; `weight` of the distillation."""

    semantic: VQConfig = field(
        default_factory=lambda: VQConfig(encoder=NetworkConfig(multipliers=(1, 1, 1, 1, 1)))
    )
    pixel: VQConfig = field(default_factory=VQConfig)
    side: int = 32
    features: int = 0
    weight: float = 1.0

    def __post_init__(self) -> None:
        for part in (self.semantic, self.pixel):
            if self.side < part.encoder.stride or self.side % part.encoder.stride:
                raise ValueError(f"side must be a multiple of {part.encoder.stride}, got {self.side}")
        if self.semantic.dim != self.pixel.dim:
            raise ValueError(
                f"codes must have one width, got {self.semantic.dim} and {self.pixel.dim} channels"
            )
        if self.features < 0 or self.weight < 0:
            raise ValueError("features and weight must not be negative")

    def cells(self, part: VQConfig) -> int:
        """A side of the grid of one of the two."""
        return self.side // part.encoder.stride


class CompositeTokenizer(LineTokenizer):
    """Images [B, 3, side, side] in [-1, 1] <-> ids [B, semantic cells + pixel cells], the semantic codebook
    first. The decoder's output is not clamped."""

    def __init__(self, config: CompositeConfig) -> None:
        super().__init__()
        self.config = config
        self.semantic, self.pixel = VQTokenizer(config.semantic), VQTokenizer(config.pixel)
        self.semantic.decoder = self.semantic.post_quant_conv = nn.Identity()  # type: ignore[assignment]
        self.predict = nn.Conv2d(config.semantic.dim, config.features or 3, 1)
        self.side = self.stride = config.side
        self.first = config.semantic.codes  # the id of the first pixel code
        self.plan = config.cells(config.semantic) ** 2
        self.line = self.plan + config.cells(config.pixel) ** 2
        self.codes, self.dim = self.first + config.pixel.codes, config.pixel.dim

    def codebook(self) -> Tensor:
        """The rows [codes, dim], semantic ones first."""
        return torch.cat([self.semantic.codebook(), self.pixel.codebook()])

    @torch.no_grad()
    def encode(self, images: Tensor, shapes: Sequence[Shape] | None = None) -> list[Tensor]:
        """Ids [B, line] of the only map."""
        check_side(images, self.side)
        check_line(shapes, self.line)
        return [
            torch.cat([self.semantic.encode(images)[0], self.pixel.encode(images)[0] + self.first], dim=1)
        ]

    def books(self) -> list[Book]:
        return [
            Book(cast(Tensor, part.table.weight), number, first, part.config.normalised)
            for number, (part, first) in enumerate(((self.semantic, 0), (self.pixel, self.first)))
        ]

    def training_shapes(self, images: Tensor, count: int, generator: torch.Generator) -> list[Shape]:
        """Both grids."""
        return [(cells, cells) for cells in map(self.config.cells, (self.config.semantic, self.config.pixel))]

    def training_pass(
        self, images: Tensor, shapes: Sequence[Shape], entropy: float = 0.0, moment: Moment = START
    ) -> TrainingPass:
        """With `moment.features` of the teacher. ValueError where they are missing."""
        check_side(images, self.side)
        if self.config.features and moment.features is None:
            raise ValueError("this tokenizer is trained with a teacher's features, and none are given")
        cells = self.config.cells(self.config.semantic)
        latent = self.semantic.latent(images).float()
        quantised = self.semantic.quantise(latent)
        distilled = self._distillation(self.predict(quantised.output), images, moment.features)
        tie = quantised.codebook_loss + quantised.commitment_loss
        if entropy:
            tie = tie + entropy * self.semantic.entropy(latent)
        fine = self.pixel.training_pass(images, shapes[1:], entropy, moment)
        return TrainingPass(
            fine.images,
            [quantised.ids, fine.ids[0] + self.first],
            [latent.detach().permute(0, 2, 3, 1).reshape(len(images) * cells**2, -1), *fine.candidates],
            fine.loss + tie + self.config.weight * distilled,
            {"semantic": distilled},
        )

    def _distillation(self, predicted: Tensor, images: Tensor, features: Tensor | None) -> Tensor:
        """1 - cosine to a teacher's features, or the squared distance to averaged colours."""
        shape = (predicted.shape[2], predicted.shape[3])
        if not self.config.features or features is None:
            return F.mse_loss(predicted, area(images, shape))
        return (1 - F.cosine_similarity(predicted, area(features.float(), shape), dim=1)).mean()

    def _decoded(self, vectors: Tensor) -> Tensor:
        cells = self.config.cells(self.config.pixel)
        return self.pixel.decode_vectors(vectors[:, self.plan :].transpose(1, 2).unflatten(2, (cells, cells)))


def _small(wanted: Wanted) -> CompositeConfig:
    """A semantic grid of half the side, of cells twice as large."""
    fine, coarse = wanted, wanted
    if wanted.cells > 1:
        coarse = Wanted(**{**vars(wanted), "stride": 2 * wanted.stride})
    parts = [VQConfig(codes=part.codes, dim=part.dim, encoder=part.network()) for part in (coarse, fine)]
    return CompositeConfig(semantic=parts[0], pixel=parts[1], side=wanted.size, features=wanted.features)


KIND = Kind(config=CompositeConfig, build=CompositeTokenizer, small=_small, restarts=True)
