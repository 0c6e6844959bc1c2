"""One plain codebook, used at every scale on its own: the default tokenizer.

An image is encoded once; the latent map is averaged onto each grid of a schedule and every grid is quantised
by itself, without residuals, so each map is an image and the schedule is a runtime argument (FlexVAR: Jiao et
al. 2025, arXiv 2502.20313; network of LlamaGen). The published trainer averages after the last convolution of
the encoder and the published tokenizer before it; that convolution is 1x1, so both agree up to rounding, and
this follows the trainer. `tests/unified/checkpoints/test_tokenizers.py` compares with the published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .codebook import CodebookConfig, build_codebook
from .feeds import ResizeFeed
from .kinds import Kind, Wanted
from .networks import Decoder, Encoder, NetworkConfig
from .quantise import entropy_loss, nearest
from .resize import Shape, area, as_shapes, bicubic_tokens, flatten, unflatten
from .visual import START, Moment, TrainingPass, check_ids, check_images, check_maps


@dataclass(frozen=True, kw_only=True)
class VQConfig:
    """`decoder` None mirrors `encoder`. `normalised` codes and latents have length 1. `recent` > 0 keeps the
    ring buffer of recent ids that published weights carry (it is not used)."""

    codes: int = 256
    dim: int = 16
    encoder: NetworkConfig = field(default_factory=NetworkConfig)
    decoder: NetworkConfig | None = None
    codebook: CodebookConfig = field(default_factory=CodebookConfig)
    normalised: bool = True
    commitment: float = 0.25
    recent: int = 0

    def __post_init__(self) -> None:
        if self.codes < 2 or self.dim < 1:
            raise ValueError(
                f"a codebook needs 2 codes and 1 dimension at least, got {self.codes} and {self.dim}"
            )
        if self.commitment < 0 or self.recent < 0:
            raise ValueError("commitment and recent must not be negative")
        if self.decoder is not None and self.decoder.stride != self.encoder.stride:
            raise ValueError(
                f"encoder stride {self.encoder.stride} and decoder stride {self.decoder.stride} differ"
            )
        self.codebook.check(self.codes)


@dataclass(frozen=True)
class Quantised:
    """`vectors` [B, D, h, w] are rows of the codebook, `output` the same with the gradient of the input
    straight through."""

    ids: Tensor  # [B, h * w]
    vectors: Tensor
    output: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class VQTokenizer(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] <-> ids per map. The decoder's output is not clamped."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        self.codes, self.dim, self.stride = config.codes, config.dim, config.encoder.stride
        decoder = config.decoder or config.encoder
        self.encoder, self.decoder = Encoder(config.encoder), Decoder(decoder)
        self.quant_conv = nn.Conv2d(config.encoder.latent, config.dim, 1)
        self.post_quant_conv = nn.Conv2d(config.dim, decoder.latent, 1)
        if (
            config.normalised
        ):  # vectors of length 1 are small against the biases that follow: start them at size 1
            nn.init.normal_(self.post_quant_conv.weight)
        if config.encoder.shortcut and config.encoder.latent == config.dim:
            for layer in (self.quant_conv, self.post_quant_conv):  # the identity, for a start
                nn.init.dirac_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.table = build_codebook(config.codes, config.dim, config.codebook)
        if config.recent:
            self.register_buffer("recent", torch.zeros(config.recent))

    def codebook(self) -> Tensor:
        """The rows [codes, dim] in use: of length 1 if codes are normalised."""
        table = self.table()
        return F.normalize(table, dim=-1) if self.config.normalised else table

    def vectors(self, ids: Tensor) -> Tensor:
        """Code vectors [..., dim] of ids [...]."""
        check_ids(ids, self.codes)
        return F.embedding(ids, self.codebook())

    def latent(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> continuous map [B, dim, H / stride, W / stride]."""
        check_images(images, self.stride, self.config.encoder.channels)
        return self.quant_conv(self.encoder(images).to(self.quant_conv.weight.dtype))

    def quantise(self, latent: Tensor) -> Quantised:
        """Nearest code at each place of [B, D, h, w], in float32; gradient passes the normalisation of the
        latent."""
        vectors = flatten(latent.float())  # [B, h * w, D]
        vectors = F.normalize(vectors, dim=-1) if self.config.normalised else vectors
        table = self.codebook().float()
        ids = nearest(vectors, table)
        rows = F.embedding(ids, table)
        output = vectors + (rows - vectors).detach()
        shape = (latent.shape[2], latent.shape[3])
        return Quantised(
            ids=ids,
            vectors=unflatten(rows, shape),
            output=unflatten(output, shape),
            codebook_loss=F.mse_loss(rows, vectors.detach()),
            commitment_loss=self.config.commitment * F.mse_loss(vectors, rows.detach()),
        )

    @torch.no_grad()
    def encode(self, images: Tensor, shapes: Sequence[Shape] | None = None) -> list[Tensor]:
        """Ids [B, h * w] for each map of `shapes` (None: the latent's own grid). A map may be finer than the
        latent."""
        latent = self.latent(images).float()
        maps = as_shapes(shapes) if shapes is not None else [(latent.shape[2], latent.shape[3])]
        return [self.quantise(area(latent, shape)).ids for shape in maps]

    def decode(self, ids: Tensor, shape: Shape) -> Tensor:
        """Ids [B, h * w] of one map of any shape -> images [B, 3, h * stride, w * stride]."""
        return self.decode_vectors(unflatten(self.vectors(ids), as_shapes([shape])[0]))

    def decode_maps(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Images from the last map of a schedule; the coarser ones are not needed."""
        check_maps(ids, shapes)
        return self.decode(ids[-1], shapes[-1])

    def partial_images(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> list[Tensor]:
        """Of every map, the image that it alone stands for, each at its own size."""
        check_maps(ids, shapes)
        return [self.decode(item, shape) for item, shape in zip(ids, shapes, strict=True)]

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """Map of code vectors [B, dim, h, w], of any dtype -> images [B, 3, h * stride, w * stride]."""
        return self.decoder(self.post_quant_conv(vectors.to(self.post_quant_conv.weight.dtype)))

    def transformer_inputs(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """What predicts map s + 1: the vectors of map s, resized bicubically. Ids [B, h * w] per map -> [B, L
        - first, dim]."""
        maps = as_shapes(shapes)
        check_maps(ids, maps)
        feed = self.feed(maps)
        vectors = torch.cat([self.vectors(item) for item in ids], dim=1).float()
        return feed.inputs(vectors, feed.later)

    def feed(self, shapes: Sequence[Shape]) -> ResizeFeed:
        """What the slots of these maps are fed, of code vectors [B, T, dim]: in teacher forcing and in
        generation."""
        return ResizeFeed(as_shapes(shapes), bicubic_tokens)

    def read_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """An image is read from its last map."""
        return as_shapes(shapes)[-1:]

    def training_shapes(self, images: Tensor, count: int, generator: torch.Generator) -> list[Shape]:
        """The latent's own grid and `count` random coarser ones (at most as many as there are) of its aspect,
        in order."""
        height, width = images.shape[2] // self.stride, images.shape[3] // self.stride
        longest = max(height, width)
        drawn = (torch.randperm(longest - 1, generator=generator)[:count] + 1).sort().values.tolist()
        coarse = [(max(1, round(height * p / longest)), max(1, round(width * p / longest))) for p in drawn]
        return [*coarse, (height, width)]

    def training_pass(
        self, images: Tensor, shapes: Sequence[Shape], entropy: float = 0.0, moment: Moment = START
    ) -> TrainingPass:
        """Quantise and reconstruct at every map of `shapes`; `entropy` weighs the term that evens the use of
        codes."""
        latent = self.latent(images).float()
        pooled = [area(latent, shape) for shape in as_shapes(shapes)]
        quantised = [self.quantise(item) for item in pooled]
        loss = torch.stack([q.codebook_loss + q.commitment_loss for q in quantised]).mean()
        if entropy:
            loss = loss + entropy * torch.stack([self.entropy(item) for item in pooled]).mean()
        return TrainingPass(
            images=[self.decode_vectors(q.output) for q in quantised],
            ids=[q.ids for q in quantised],
            candidates=[flatten(item.detach()).flatten(0, 1) for item in pooled],
            loss=loss,
        )

    def entropy(self, latent: Tensor) -> Tensor:
        """Entropy term of one latent map [B, D, h, w]; see `quantise.entropy_loss`."""
        vectors = flatten(latent.float()).flatten(0, 1)
        vectors = F.normalize(vectors, dim=-1) if self.config.normalised else vectors
        return entropy_loss(vectors, self.codebook().float())


def _small(wanted: Wanted) -> VQConfig:
    return VQConfig(codes=wanted.codes, dim=wanted.dim, encoder=wanted.network())


KIND = Kind(config=VQConfig, build=VQTokenizer, small=_small, restarts=True)
