"""The published MineWorld tokenizer: a plain VQ model, one map of codes for a frame.

Source: microsoft/mineworld (MIT), arXiv 2504.08388, around the `VQModel` of diffusers. Frames of 224 x 384
pixels are 14 x 24 codes of 8192. Weights keep their published names: those of a stand-alone checkpoint
(`model.`), or of a whole one (`tokenizer.model.`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.mineworld_networks import Decoder, Encoder, MineWorldVQConfig
from unified.checkpoints.state_dict import check_fit, unwrap
from unified.tokenizers.feeds import ResizeFeed
from unified.tokenizers.quantise import nearest
from unified.tokenizers.resize import Shape, area, as_shapes, bicubic_tokens, flatten, unflatten
from unified.tokenizers.visual import check_ids, check_images, check_maps

_KNOWN = {"act_fn": "silu", "norm_type": "group", "lookup_from_codebook": True, "in_channels": 3,
          "out_channels": 3}  # fmt: skip
_BLOCKS = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}


def config_from(options: Mapping[str, Any]) -> MineWorldVQConfig:
    """Published options -> ours; what does not concern the networks is left alone. ValueError for what is
    missing, or for networks of another kind."""
    for name, value in _KNOWN.items():
        if options.get(name, value) != value:
            raise ValueError(f"{name} must be {value!r} in a MineWorld tokenizer, got {options[name]!r}")
    for name, kind in _BLOCKS.items():
        other = next((block for block in options.get(name, ()) if block != kind), None)
        if other is not None:
            raise ValueError(f"{name} may be {kind} only, got {other}")
    missing = [name for name in ("block_out_channels", "num_vq_embeddings") if name not in options]
    if missing:
        raise ValueError(f"the options of the tokenizer lack {missing[0]}")
    latent = options.get("latent_channels", 3)
    return MineWorldVQConfig(
        codes=options["num_vq_embeddings"],
        dim=options.get("vq_embed_dim") or latent,
        latent=latent,
        widths=tuple(options["block_out_channels"]),
        blocks=options.get("layers_per_block", 1),
        groups=options.get("norm_num_groups", 32),
        attention=options.get("mid_block_add_attention", True),
    )


class Codes(nn.Module):
    """The codebook under its published name."""

    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, dim)


class MineWorldTokenizer(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] <-> ids of one map. The decoder's output is not clamped."""

    def __init__(self, config: MineWorldVQConfig) -> None:
        super().__init__()
        self.config = config
        self.codes, self.dim, self.stride = config.codes, config.dim, config.stride
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = nn.Conv2d(config.latent, config.dim, 1)
        self.quantize = Codes(config.codes, config.dim)
        self.post_quant_conv = nn.Conv2d(config.dim, config.latent, 1)

    def codebook(self) -> Tensor:
        """[codes, dim]"""
        return self.quantize.embedding.weight

    def vectors(self, ids: Tensor) -> Tensor:
        """Code vectors [..., dim] of ids [...]."""
        check_ids(ids, self.codes)
        return F.embedding(ids, self.codebook())

    def latent(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, dim, H / stride, W / stride]"""
        check_images(images, self.stride)
        return self.quant_conv(self.encoder(images.to(self.quant_conv.weight.dtype)))

    @torch.no_grad()
    def encode(self, images: Tensor, shapes: Sequence[Shape] | None = None) -> list[Tensor]:
        """Ids [B, h * w] for each map; coarser maps, which the published model has not, are averages."""
        latent = self.latent(images).float()
        maps = [(latent.shape[2], latent.shape[3])] if shapes is None else as_shapes(shapes)
        return [nearest(flatten(area(latent, shape)), self.codebook()) for shape in maps]

    def decode_maps(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Images from the last map of a schedule."""
        check_maps(ids, shapes)
        return self.decode_vectors(unflatten(self.vectors(ids[-1]), as_shapes(shapes)[-1]))

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """[B, dim, h, w] -> images [B, 3, h * stride, w * stride]"""
        return self.decoder(self.post_quant_conv(vectors.to(self.post_quant_conv.weight.dtype)))

    def transformer_inputs(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """What predicts map s + 1: the vectors of map s, resized bicubically."""
        maps = as_shapes(shapes)
        check_maps(ids, maps)
        feed = ResizeFeed(maps, bicubic_tokens)
        return feed.inputs(torch.cat([self.vectors(item) for item in ids], dim=1).float(), feed.later)

    def read_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        return as_shapes(shapes)[-1:]


def load(options: Mapping[str, Any], state_dict: Mapping[str, Any]) -> MineWorldTokenizer:
    """The tokenizer of published options and weights, in float32 and eval mode. Weights of a transformer
    beside them are left out; if the tokenizer's do not fit, ValueError with a short reason."""
    found = tokenizer_weights(unwrap(state_dict))
    with torch.device("meta"):
        tokenizer = MineWorldTokenizer(config_from(options))
    check_fit({f"model.{name}": value for name, value in tokenizer.state_dict().items()}, found)
    copies = {name.removeprefix("model."): x.to(torch.float32, copy=True) for name, x in found.items()}
    tokenizer.load_state_dict(copies, assign=True)
    return tokenizer.eval()


def tokenizer_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tokenizer's part of a checkpoint, under the names of a stand-alone one. Names that are not the
    published module's (discriminators, losses) are left out, as there."""
    whole = any(name.startswith("tokenizer.") for name in state_dict)
    prefix = "tokenizer." if whole else ""
    parts = tuple(f"{prefix}model.{part}" for part in ("encoder.", "decoder.", "quant", "post_quant"))
    return {name.removeprefix(prefix): x for name, x in state_dict.items() if name.startswith(parts)}


def to_pixels(images: Tensor) -> Tensor:
    """[B, 3, H, W] -> uint8 [B, H, W, 3] as the published code has it: cut off, not rounded."""
    levels = (images.clamp(-1, 1) + 1) / 2 * 255
    return levels.to(torch.uint8).permute(0, 2, 3, 1)
