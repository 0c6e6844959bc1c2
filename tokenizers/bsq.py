"""Binary spherical quantisation at several scales: a code is the signs of what coarser maps leave over.

Each place of a map becomes bits, the signs of its channels; the code's vector is those signs divided by
sqrt(bits), so it lies on the unit sphere and needs no table. Maps add up as in residual quantisation (BSQ:
Zhao et al., arXiv 2406.07548; over scales: Infinity, arXiv 2412.04431). Bit 0 is the most significant of an
id, as in `unified.heads.bitwise`. Entropy is taken bit by bit, which treats bits as independent (BSQ,
equation 11). `tests/tokenizers/test_bsq.py` compares with the definition; published weights of Infinity load
in `unified/checkpoints/infinity_tokenizer.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .feeds import Carry, ResidualFeed
from .kinds import Kind, Wanted
from .networks import Decoder, Encoder, NetworkConfig
from .resize import Shape, area, area_tokens, as_shapes, bicubic, bicubic_tokens, flatten, unflatten
from .visual import START, Moment, TrainingPass, check_ids, check_images, check_maps

MOST_BITS = 62


@dataclass(frozen=True, kw_only=True)
class BSQConfig:
    """`network.latent` is the number of bits of a code; `sizes` the default schedule of p x p maps, the last
    being the latent's. `temperature` of the probability of a bit in the entropy term."""

    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(latent=9))
    sizes: tuple[int, ...] = (1, 2, 3, 4)
    commitment: float = 0.25
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.network.latent <= MOST_BITS:
            raise ValueError(f"a code has 1 to {MOST_BITS} bits, got {self.network.latent}")
        if self.commitment < 0 or self.temperature <= 0:
            raise ValueError("commitment must not be negative and temperature be positive")
        as_shapes(self.sizes)


class BSQTokenizer(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] <-> ids per scale. The decoder's output is not clamped."""

    table = None  # codes are computed

    def __init__(self, config: BSQConfig) -> None:
        super().__init__()
        self.config = config
        self.dim, self.stride = config.network.latent, config.network.stride
        self.codes = 2**self.dim
        self.shapes = as_shapes(config.sizes)
        self.encoder, self.decoder = Encoder(config.network), Decoder(config.network)

    def codebook(self) -> Tensor:
        """All vectors [codes, dim]."""
        return self.vectors(torch.arange(self.codes))

    def vectors(self, ids: Tensor) -> Tensor:
        """Code vectors [..., dim] of ids [...]: +-1 / sqrt(dim)."""
        check_ids(ids, self.codes)
        bits = ids[..., None] >> torch.arange(self.dim - 1, -1, -1, device=ids.device) & 1
        return (2 * bits - 1) / self.dim**0.5

    def ids(self, vectors: Tensor) -> Tensor:
        """The code nearest to each of vectors [..., dim]: the signs, 0 counting as positive."""
        places = torch.arange(self.dim - 1, -1, -1, device=vectors.device)
        return ((vectors >= 0).long() << places).sum(dim=-1)

    def latent(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> continuous map [B, dim, H / stride, W / stride]."""
        check_images(images, self.stride, self.config.network.channels)
        found: Tensor = self.encoder(images)
        return found

    def quantise(self, latent: Tensor, shapes: Sequence[Shape]) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """latent [B, C, H, W] -> by map, ids [B, h * w] and what was quantised [B, h * w, C]; the sum of all
        maps [B, C, H, W]. ValueError unless the last map has the latent's size."""
        maps, shape = as_shapes(shapes), (latent.shape[2], latent.shape[3])
        if maps[-1] != shape:
            raise ValueError(f"the last map must have the latent's size {shape}, got {maps[-1]}")
        rest, total = latent.float(), torch.zeros_like(latent, dtype=torch.float32)
        ids, rests = [], []
        for size in maps:
            left = flatten(area(rest, size))
            ids.append(self.ids(left))
            rests.append(left)
            step = bicubic(unflatten(self.vectors(ids[-1]), size), shape)
            total, rest = total + step, rest - step
        return ids, rests, total

    @torch.no_grad()
    def encode(self, images: Tensor, shapes: Sequence[Shape] | None = None) -> list[Tensor]:
        """Ids [B, h * w] per scale of `shapes` (None: the default schedule), whose last must be the latent's
        grid."""
        return self.quantise(self.latent(images), self.shapes if shapes is None else shapes)[0]

    def decode_maps(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Ids [B, h * w] per scale -> images [B, 3, H, W]."""
        maps = as_shapes(shapes)
        check_maps(ids, maps)
        vectors = torch.cat([self.vectors(item) for item in ids], dim=1)
        return self.decode_vectors(unflatten(self.feed(maps).total(vectors, len(maps), Carry()), maps[-1]))

    def partial_images(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> list[Tensor]:
        """Of every map, the image of the sum up to it, all of the full size."""
        maps, carry = as_shapes(shapes), Carry()
        check_maps(ids, maps)
        feed, vectors = self.feed(maps), torch.cat([self.vectors(item) for item in ids], dim=1)
        sums = [feed.total(vectors, count + 1, carry) for count in range(len(maps))]
        return [self.decode_vectors(unflatten(total, maps[-1])) for total in sums]

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """Sum of code vectors [B, dim, h, w] -> images [B, 3, h * stride, w * stride]."""
        found: Tensor = self.decoder(vectors)
        return found

    def transformer_inputs(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """What predicts map s + 1: the sum so far, averaged onto it. Ids [B, h * w] per map -> [B, L - first,
        dim]."""
        maps = as_shapes(shapes)
        check_maps(ids, maps)
        feed = self.feed(maps)
        return feed.inputs(torch.cat([self.vectors(item) for item in ids], dim=1), feed.later)

    def feed(self, shapes: Sequence[Shape]) -> ResidualFeed:
        """What the slots of these maps are fed, of code vectors [B, T, dim]."""
        maps = as_shapes(shapes)
        return ResidualFeed(maps, lambda x, step: bicubic_tokens(x, maps[step], maps[-1]), area_tokens)

    def read_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """An image is read from all its maps."""
        return as_shapes(shapes)

    def training_shapes(self, images: Tensor, count: int, generator: torch.Generator) -> list[Shape]:
        """The default schedule."""
        return self.shapes

    def training_pass(
        self, images: Tensor, shapes: Sequence[Shape], entropy: float = 0.0, moment: Moment = START
    ) -> TrainingPass:
        """Reconstruct through the straight-through sum; `entropy` weighs the term that makes each bit sure
        and the use of bits even."""
        latent = self.latent(images).float()
        ids, rests, total = self.quantise(latent, shapes)
        loss = self.config.commitment * F.mse_loss(latent, total.detach())
        if entropy:
            loss = loss + entropy * torch.stack([self.entropy(rest) for rest in rests]).mean()
        return TrainingPass(
            images=[self.decode_vectors(latent + (total - latent).detach())],
            ids=ids,
            candidates=[rest.detach().flatten(0, 1) for rest in rests],
            loss=loss,
        )

    def entropy(self, vectors: Tensor) -> Tensor:
        """Mean entropy of the bits of vectors [..., dim] minus the entropy of the mean bits, in nats a
        bit."""
        sure = torch.sigmoid(vectors / (self.config.temperature * self.dim**0.5))
        return _bernoulli(sure).mean() - _bernoulli(sure.flatten(0, -2).mean(dim=0)).mean()


def _bernoulli(p: Tensor) -> Tensor:
    """Entropy [...] of coins with these probabilities, in nats."""
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(p * p.log() + (1 - p) * (1 - p).log())


def _small(wanted: Wanted) -> BSQConfig:
    """As many bits as the codes need."""
    bits = max(1, (wanted.codes - 1).bit_length())
    return BSQConfig(network=wanted.network(bits), sizes=wanted.sides())


KIND = Kind(config=BSQConfig, build=BSQTokenizer, small=_small)
