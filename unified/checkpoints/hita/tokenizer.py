"""Hita's tokenizer behind the interface of all visual tokenizers, to be trained and used: a line of holistic
codes, then the codes of the grid row by row.

One vocabulary holds both codebooks, the holistic one first; a code vector is padded with zeros to the wider
of the two. Features of a teacher stand beside the patches when an image is encoded, so a tokenizer that was
trained with a teacher needs it again (`teacher`: images [B, 3, H, W] -> maps [B, C, h, w]); one trained
without has none. Source: arXiv 2507.02358. Simplified: images of one size; pixels count once in the loss,
not twice. Tests: tests/tokenizers/test_kinds.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.checkpoints.hita.network import VISION_SIDE, Hita, HitaConfig, hidden_width, vision_loss
from unified.checkpoints.image_networks import ImageConfig
from unified.tokenizers.kinds import Kind, Wanted
from unified.tokenizers.line import LineTokenizer, check_line, check_side
from unified.tokenizers.quantise import entropy_loss
from unified.tokenizers.resize import Shape, area, flatten
from unified.tokenizers.visual import START, Book, Moment, TrainingPass


@dataclass(frozen=True, kw_only=True)
class HitaTokenizerConfig:
    """`side` of the images in pixels; `features`: channels of the teacher that it is trained with, 0 without
    one; `reconstruct`: weight of the teacher's features given back, where `network.vision` has them."""

    network: HitaConfig = field(default_factory=HitaConfig)
    side: int = 16
    features: int = 0
    reconstruct: float = 1.0

    def __post_init__(self) -> None:
        stride = 2 ** (len(self.network.image.multipliers) - 1)
        if self.side < stride or self.side % stride:
            raise ValueError(f"side must be a multiple of {stride}, got {self.side}")
        if self.features not in (0, self.network.vision[0]):
            raise ValueError(f"features must be 0 or {self.network.vision[0]}, got {self.features}")

    @property
    def cells(self) -> int:
        return self.side // 2 ** (len(self.network.image.multipliers) - 1)


class HitaTokenizer(LineTokenizer):
    """Images [B, 3, side, side] in [-1, 1] <-> ids [B, holistic + cells * cells]. The decoder's output is not
    clamped; the last `shift` codes change nothing in it."""

    def __init__(self, config: HitaTokenizerConfig) -> None:
        super().__init__()
        self.config, self.network = config, Hita(config.network)
        (local, local_dim), (holistic, holistic_dim) = config.network.codebooks
        self.first = holistic  # the id of the first local code
        self.side = self.stride = config.side
        self.holistic = config.network.holistic
        self.line = self.holistic + config.cells**2
        self.codes, self.dim = holistic + local, max(local_dim, holistic_dim)
        self.teacher: Callable[[Tensor], Tensor] | None = None

    def codebook(self) -> Tensor:
        """The rows [codes, dim], of length 1, holistic ones first."""
        rows = (self.network.slot_quantize.rows(), self.network.quantize.rows())
        return torch.cat([F.pad(part, (0, self.dim - part.shape[1])) for part in rows])

    @torch.no_grad()
    def encode(self, images: Tensor, shapes: Sequence[Shape] | None = None) -> list[Tensor]:
        """Ids [B, line] of the only map. ValueError where the teacher is missing."""
        check_side(images, self.side)
        check_line(shapes, self.line)
        if self.config.features and self.teacher is None:
            raise ValueError(
                "this tokenizer reads a teacher's features with every image: set its `teacher` "
                f"(images -> maps [B, {self.config.features}, h, w])"
            )
        seen = None if self.teacher is None else self.teacher(images)
        images = images.to(self._dtype())
        local, holistic = self.network.latents(images, self._features(seen, len(images)))
        found = self.network.quantise(local, holistic)
        return [torch.cat([found.holistic.ids, found.local.ids + self.first], dim=1)]

    def books(self) -> list[Book]:
        holistic = Book(self.network.slot_quantize.embedding.weight, 0)
        return [holistic, Book(self.network.quantize.embedding.weight, 1, self.first)]

    def training_shapes(self, images: Tensor, count: int, generator: torch.Generator) -> list[Shape]:
        """Holistic codes and the grid."""
        return [(1, self.holistic), (self.config.cells, self.config.cells)]

    def training_pass(
        self, images: Tensor, shapes: Sequence[Shape], entropy: float = 0.0, moment: Moment = START
    ) -> TrainingPass:
        """With `moment.features` of the teacher. ValueError where they are missing."""
        check_side(images, self.side)
        if self.config.features and moment.features is None:
            raise ValueError("this tokenizer is trained with a teacher's features, and none are given")
        features = self._features(moment.features, len(images))
        local, holistic = (part.float() for part in self.network.latents(images, features))
        found = self.network.quantise(local, holistic)
        loss, terms = found.loss, {}
        vectors = [holistic.flatten(0, 1), flatten(local).flatten(0, 1)]
        if entropy:
            books = (self.network.slot_quantize, self.network.quantize)
            for part, book in zip(vectors, books, strict=True):
                loss = loss + entropy * entropy_loss(F.normalize(part, dim=-1), book.rows())
        if moment.features is not None and self.config.network.vision[1]:
            slots = self.network.post_slots_quant(found.holistic.output)
            whole = self._features(area(moment.features, (VISION_SIDE, VISION_SIDE)), len(images))
            terms["vision"] = vision_loss(self.network.decode_transformer.vision(slots), whole)
            loss = loss + self.config.reconstruct * terms["vision"]
        made = self.network.decode_vectors(found.local.output, found.holistic.output, found.shape)
        return TrainingPass(
            [made],
            [found.holistic.ids, found.local.ids + self.first],
            [part.detach() for part in vectors],
            loss,
            terms,
        )

    def _features(self, maps: Tensor | None, count: int) -> Tensor:
        """The tokens [B, 1 + h * w, C] of a teacher's maps, their mean first; without maps none."""
        if maps is None or not self.config.features:
            weight = self.network.pre_slots_quant.weight
            return weight.new_zeros(count, 0, self.config.network.vision[0])
        places = flatten(maps.to(self._dtype()))
        return torch.cat([places.mean(dim=1, keepdim=True), places], dim=1)

    def _decoded(self, vectors: Tensor) -> Tensor:
        (_, local_dim), (_, holistic_dim) = self.config.network.codebooks
        holistic, local = vectors.to(self._dtype()).split([self.holistic, self.line - self.holistic], dim=1)
        shape = (self.config.cells, self.config.cells)
        return self.network.decode_vectors(local[..., :local_dim], holistic[..., :holistic_dim], shape)

    def _dtype(self) -> torch.dtype:
        return self.network.pre_slots_quant.weight.dtype


def of_network(network: Hita, config: HitaConfig) -> HitaTokenizer:
    """A tokenizer around a published network, which reads a teacher's features."""
    side = config.grid * 2 ** (len(config.image.multipliers) - 1)
    wanted = HitaTokenizerConfig(network=config, side=side, features=config.vision[0])
    tokenizer = HitaTokenizer(wanted)
    tokenizer.network = network
    return tokenizer


def _small(wanted: Wanted) -> HitaTokenizerConfig:
    """A quarter as many holistic codes as cells."""
    width = 2 * wanted.width
    heads = max(1, width // 32)
    holistic = max(2, wanted.cells**2 // 4)
    network = HitaConfig(
        image=ImageConfig(
            latent=width,
            width=wanted.width,
            multipliers=(1,) * wanted.stride.bit_length(),
            attention=False,
        ),
        codebooks=((wanted.codes, wanted.dim), (wanted.codes, wanted.dim)),
        holistic=holistic,
        sizes=(heads, width // heads, hidden_width(4 * width)),
        shift=min(4, holistic),
        grid=wanted.cells,
        vision=(max(1, wanted.features), wanted.features > 0, 0.25, 0.0),
    )
    return HitaTokenizerConfig(network=network, side=wanted.size, features=wanted.features)


KIND = Kind(config=HitaTokenizerConfig, build=HitaTokenizer, small=_small, restarts=True)
