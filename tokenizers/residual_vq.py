"""Multi-scale residual quantisation: every scale codes what the coarser ones left over.

The running sum F starts at zero; at each scale the rest R = f - F is averaged onto the grid, quantised,
resized to the full latent, passed through a small convolution phi and added to F. One codebook serves all
scales (VAR: Tian et al. 2024, arXiv 2404.02905). All sums are float32.
`tests/unified/checkpoints/test_tokenizers.py` compares with the published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .codebook import CodebookConfig, build_codebook
from .feeds import Carry, ResidualFeed
from .kinds import Kind, Wanted
from .networks import Decoder, Encoder, NetworkConfig
from .phi import Phi, PhiConfig, phi_index
from .quantise import most_aligned, nearest
from .resize import Shape, area, area_tokens, as_shapes, bicubic, flatten, unflatten
from .visual import START, Moment, TrainingPass, check_ids, check_images, check_maps


@dataclass(frozen=True, kw_only=True)
class ResidualVQConfig:
    """`sizes` is the default schedule of p x p maps, the last being the latent's. `kernel` is that of the
    convolutions around the quantiser; `cosine` looks codes up by angle (their length still counts in the
    sum)."""

    codes: int = 256
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(latent=16))
    sizes: tuple[int, ...] = (1, 2, 3, 4)
    phi: PhiConfig = field(default_factory=PhiConfig)
    codebook: CodebookConfig = field(default_factory=CodebookConfig)
    kernel: int = 3
    cosine: bool = False
    commitment: float = 0.25

    def __post_init__(self) -> None:
        if self.codes < 2:
            raise ValueError(f"a codebook needs 2 codes at least, got {self.codes}")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")
        if self.commitment < 0:
            raise ValueError("commitment must not be negative")
        as_shapes(self.sizes)
        self.codebook.check(self.codes)


@dataclass(frozen=True)
class ResidualCodes:
    """By scale: ids [B, h * w], the running sum after it [B, C, H, W], and the vectors that were quantised
    [B, h * w, C]."""

    ids: list[Tensor]
    totals: list[Tensor]
    rests: list[Tensor]


@dataclass(frozen=True)
class StraightThrough:
    """`output` [B, C, H, W] has the value of the last sum and the gradient of the latent."""

    output: Tensor
    loss: Tensor
    codes: ResidualCodes


class ResidualVQTokenizer(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] <-> ids per scale. Decoded images are clamped to [-1, 1]."""

    hits: Tensor

    def __init__(self, config: ResidualVQConfig) -> None:
        super().__init__()
        self.config = config
        self.codes, self.dim, self.stride = config.codes, config.network.latent, config.network.stride
        self.shapes = as_shapes(config.sizes)
        self.encoder, self.decoder = Encoder(config.network), Decoder(config.network)
        self.quant_conv = nn.Conv2d(self.dim, self.dim, config.kernel, padding=config.kernel // 2)
        self.post_quant_conv = nn.Conv2d(self.dim, self.dim, config.kernel, padding=config.kernel // 2)
        self.table = build_codebook(config.codes, self.dim, config.codebook)
        phis = config.phi.count if config.phi.active else 0
        self.phi = nn.ModuleList(Phi(self.dim, config.phi.blend) for _ in range(phis))
        self.register_buffer(
            "hits", torch.zeros(len(self.shapes), config.codes)
        )  # running use of codes by scale

    def codebook(self) -> Tensor:
        """The rows [codes, dim] that are added up."""
        return self.table()

    def vectors(self, ids: Tensor) -> Tensor:
        """Code vectors [..., dim] of ids [...]."""
        check_ids(ids, self.codes)
        return F.embedding(ids, self.codebook())

    def latent(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> continuous map [B, dim, H / stride, W / stride]."""
        check_images(images, self.stride, self.config.network.channels)
        return self.quant_conv(self.encoder(images).to(self.quant_conv.weight.dtype))

    def contribution(self, vectors: Tensor, step: int, steps: int, shape: Shape) -> Tensor:
        """What the code map [B, C, h, w] of one scale adds to the sum at `shape`; the last scale is not
        resized."""
        h = vectors.float() if step == steps - 1 else bicubic(vectors.float(), shape)
        return self.phi[phi_index(step, steps, len(self.phi))](h) if len(self.phi) else h

    def accumulate(
        self, total: Tensor, vectors: Tensor, step: int, steps: int, shape_next: Shape | None
    ) -> tuple[Tensor, Tensor]:
        """One step of generation: (new sum [B, C, H, W], input map of the next scale; after the last the sum
        itself).

        `total` is not changed. vectors [B, C, h, w] are the drawn codes of scale `step`.
        """
        total = total + self.contribution(vectors, step, steps, (total.shape[2], total.shape[3]))
        return total, total if shape_next is None else area(total, shape_next)

    def quantise(self, latent: Tensor, shapes: Sequence[Shape]) -> ResidualCodes:
        """latent [B, C, H, W] -> codes scale by scale; gradient reaches the codebook and phi, not the
        latent."""
        maps, shape = as_shapes(shapes), (latent.shape[2], latent.shape[3])
        if maps[-1] != shape:
            raise ValueError(f"the last map must have the latent's size {shape}, got {maps[-1]}")
        rest = latent.detach().float()
        total = torch.zeros_like(rest)
        table = self.codebook().float()
        codes = ResidualCodes([], [], [])
        for step, size in enumerate(maps):
            vectors = flatten(rest if step == len(maps) - 1 else area(rest, size))  # [B, h * w, C]
            ids = (most_aligned if self.config.cosine else nearest)(vectors, table)
            h = self.contribution(unflatten(F.embedding(ids, table), size), step, len(maps), shape)
            total, rest = total + h, rest - h.detach()
            codes.ids.append(ids)
            codes.totals.append(total)
            codes.rests.append(vectors)
        return codes

    @torch.no_grad()
    def encode(self, images: Tensor, shapes: Sequence[Shape] | None = None) -> list[Tensor]:
        """Ids [B, h * w] per scale of `shapes` (None: the default schedule), whose last must be the latent's
        grid."""
        return self.quantise(self.latent(images), self.shapes if shapes is None else shapes).ids

    def totals(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> list[Tensor]:
        """The running sum [B, C, H, W] after each scale, at the size of the last map."""
        maps = as_shapes(shapes)
        check_maps(ids, maps)
        feed, carry = self.feed(maps), Carry()
        vectors = torch.cat([self.vectors(item) for item in ids], dim=1)
        sums = [feed.total(vectors, count + 1, carry) for count in range(len(maps))]
        return [unflatten(total, maps[-1]).contiguous() for total in sums]

    def decode(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Ids [B, h * w] per scale -> images [B, 3, H, W] in [-1, 1]."""
        return self.decode_vectors(self.totals(ids, shapes)[-1])

    decode_maps = decode

    def partial_images(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> list[Tensor]:
        """Of every map, the image of the sum up to it, all of the full size."""
        return [self.decode_vectors(total) for total in self.totals(ids, shapes)]

    def decode_own_sizes(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> list[Tensor]:
        """One image per scale at that scale's own size: the sum itself grows (experimental in the published
        code)."""
        maps = as_shapes(shapes)
        check_maps(ids, maps)
        total = self._zeros(ids[0], maps[0])
        images = []
        for step, (item, shape) in enumerate(zip(ids, maps, strict=True)):
            h = unflatten(self.vectors(item), shape)
            total = bicubic(total, shape) + self.contribution(h, step, len(maps), shape)
            images.append(self.decode_vectors(total))
        return images

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """Sum of code vectors [B, dim, h, w], of any dtype -> images in [-1, 1]."""
        return self.decode_unclamped(vectors).clamp(-1, 1)

    def decode_unclamped(self, vectors: Tensor) -> Tensor:
        """As `decode_vectors`, for losses."""
        return self.decoder(self.post_quant_conv(vectors.to(self.post_quant_conv.weight.dtype)))

    def transformer_inputs(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """What predicts map s + 1: the sum so far, averaged onto it. Ids [B, h * w] per map -> float32 [B, L
        - first, dim]."""
        maps = as_shapes(shapes)
        check_maps(ids, maps)
        feed = self.feed(maps)
        vectors = torch.cat([self.vectors(item) for item in ids], dim=1).float()
        return feed.inputs(vectors, feed.later)

    def feed(self, shapes: Sequence[Shape]) -> ResidualFeed:
        """What the slots of these maps are fed, of code vectors [B, T, dim]: in teacher forcing and in
        generation."""
        maps = as_shapes(shapes)

        def lift(vectors: Tensor, step: int) -> Tensor:
            return flatten(self.contribution(unflatten(vectors, maps[step]), step, len(maps), maps[-1]))

        return ResidualFeed(maps, lift, area_tokens)

    def read_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """An image is read from all its maps: none is complete by itself."""
        return as_shapes(shapes)

    def straight_through(self, latent: Tensor, shapes: Sequence[Shape]) -> StraightThrough:
        """Quantise for training: the sum passes gradient to the latent only, the loss to codebook, phi and
        latent."""
        codes = self.quantise(latent, shapes)
        losses = [self._scale_loss(total, latent.float()) for total in codes.totals]
        output = codes.totals[-1].detach() - latent.detach() + latent
        return StraightThrough(output=output, loss=torch.stack(losses).mean(), codes=codes)

    def training_shapes(self, images: Tensor, count: int, generator: torch.Generator) -> list[Shape]:
        """The default schedule: residuals make sense after one list of scales only."""
        return self.shapes

    def training_pass(
        self, images: Tensor, shapes: Sequence[Shape], entropy: float = 0.0, moment: Moment = START
    ) -> TrainingPass:
        """Reconstruct (not clamped) through the straight-through sum; the loss is averaged over scales.

        In training mode this updates `hits`. There is no entropy term here: `entropy` must be 0.
        """
        if entropy:
            raise ValueError("a residual tokenizer has no entropy term: set entropy to 0")
        result = self.straight_through(self.latent(images), shapes)
        if self.training and as_shapes(shapes) == self.shapes:
            self._record(result.codes.ids)
        return TrainingPass(
            images=[self.decode_unclamped(result.output)],
            ids=result.codes.ids,
            candidates=[rest.flatten(0, 1) for rest in result.codes.rests],
            loss=result.loss,
        )

    def usages(self, positions: int) -> Tensor:
        """Per cent of codes that each scale uses, float64 [S], from `hits`; `positions` = B * H * W of the
        training batch.

        A code counts if it got at least 8 % of an even share, as in the published code.
        """
        margin = 0.08 * positions / self.codes
        return 100 * (self.hits >= margin).float().mean(1).double()

    @torch.no_grad()
    def _record(self, ids: Sequence[Tensor]) -> None:
        for row, item in zip(self.hits, ids, strict=True):
            row.lerp_(item.flatten().bincount(minlength=self.codes).to(row), 0.01)

    def _scale_loss(self, total: Tensor, latent: Tensor) -> Tensor:
        commitment = self.config.commitment * F.mse_loss(total.detach(), latent)
        return commitment + F.mse_loss(total, latent.detach())

    def _zeros(self, ids: Tensor, shape: Shape) -> Tensor:
        return torch.zeros(len(ids), self.dim, *shape, device=ids.device)


def _small(wanted: Wanted) -> ResidualVQConfig:
    return ResidualVQConfig(codes=wanted.codes, network=wanted.network(), sizes=wanted.sides())


KIND = Kind(config=ResidualVQConfig, build=ResidualVQTokenizer, small=_small, restarts=True)
