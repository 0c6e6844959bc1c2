"""The published FlexVAR tokenizer: its options, its names for weights, and the comparison with its outputs.

Source: jiaosiyu1999/FlexVAR (MIT), a VQ-GAN in the form of LlamaGen. The released tokenizer has 8912 codes
(not 8192) of 32 dimensions, `z_channels=256`, `ch=128`; its checkpoint keeps the weights under `model`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare, input_image, weights_check
from unified.checkpoints.folder import (
    check_normalisation,
    has_formula,
    options,
    read_config,
    read_io,
    read_state,
)
from unified.checkpoints.state_dict import check_fit, unwrap
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.resize import Shape, area, as_shapes, bicubic
from unified.tokenizers.vq import VQConfig, VQTokenizer

ARGUMENTS = {
    "codebook_size": 16384,
    "codebook_embed_dim": 8,
    "codebook_l2_norm": True,
    "codebook_show_usage": True,
    "commit_loss_beta": 0.25,
    "entropy_loss_ratio": 0.0,
    "encoder_ch_mult": (1, 1, 2, 2, 4),
    "decoder_ch_mult": (1, 1, 2, 2, 4),
    "z_channels": 256,
    "dropout_p": 0.0,
}
NETWORK = {"ch": 128, "num_res_blocks": 2, "in_channels": 3}
RECENT = 65536  # ids in the buffer from which the published code computes usage


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this tokenizer (and no transformer)."""
    return "codebook_size" in config.get("model_args", {}) and "var_kwargs" not in config


def config_from(config: Mapping[str, Any]) -> VQConfig:
    """Published options (`model_args`, `encoder_decoder_kwargs`) -> ours. ValueError for what cannot be
    built."""
    check_normalisation(config)
    own = options(config, "model_args", ARGUMENTS)
    network = options(config, "encoder_decoder_kwargs", NETWORK)

    def half(multipliers: list[int]) -> NetworkConfig:
        return NetworkConfig(
            latent=own["z_channels"],
            width=network["ch"],
            multipliers=tuple(multipliers),
            blocks=network["num_res_blocks"],
            dropout=own["dropout_p"],
            channels=network["in_channels"],
        )

    return VQConfig(
        codes=own["codebook_size"],
        dim=own["codebook_embed_dim"],
        encoder=half(own["encoder_ch_mult"]),
        decoder=half(own["decoder_ch_mult"]),
        normalised=own["codebook_l2_norm"],
        commitment=own["commit_loss_beta"],
        recent=RECENT if own["codebook_show_usage"] else 0,
    )


def load(config: Mapping[str, Any], state_dict: Mapping[str, Any]) -> VQTokenizer:
    """Build the tokenizer of a golden `config` and fill it from official names (wrappers are followed), in
    eval mode.

    Raises ValueError with a short reason if options or weights do not fit.
    """
    with torch.device("meta"):
        tokenizer = VQTokenizer(config_from(config))
    ours, found = tokenizer.state_dict(), unwrap(state_dict, "tokenizer")
    check_fit(to_official(ours), found)
    filled = {name: found[official(name)].to(torch.float32, copy=True) for name in ours}
    tokenizer.load_state_dict(filled, assign=True)
    return tokenizer.eval()


def export(tokenizer: VQTokenizer) -> dict[str, Tensor]:
    """The tokenizer's weights under the official names."""
    return to_official(tokenizer.state_dict())


def to_official(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values by our names (weights or gradients) -> by official names."""
    return {official(name): value for name, value in values.items()}


MIDDLE = {"block_1": "0", "attn_1": "1", "block_2": "2"}


def official(name: str) -> str:
    """The official name of one of ours."""
    if name == "table.weight":
        return "quantize.embedding.weight"
    if name == "recent":
        return "quantize.codebook_used"
    name = re.sub(r"\.mid\.(\w+)\.", lambda match: f".mid.{MIDDLE[match[1]]}.", name)
    name = re.sub(
        r"^(encoder\.down|decoder\.up)\.", lambda match: match[1].split(".")[0] + ".conv_blocks.", name
    )
    return re.sub(r"(conv_blocks\.\d+)\.block\.", r"\1.res.", name)


# Verification ---------------------------------------------------------------------------------


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    state_dict = read_state(folder, config)
    tokenizer = load(config, state_dict)
    schedules = {name: as_shapes(sizes) for name, sizes in config.get("schedules", {}).items()}
    computed = {**_encoded(tokenizer, stored), **weights_check(config, state_dict)}
    for name, shapes in schedules.items():
        if any(key.startswith((f"ms.{name}.", f"train_input.{name}.")) for key in stored):
            computed |= _multi_scale(tokenizer, stored, name, shapes)
    if any(key.startswith("train.") for key in stored):
        ratio = config.get("entropy_loss_ratio_for_loss", config["model_args"].get("entropy_loss_ratio", 0.0))
        computed |= _trained(tokenizer, stored, ratio)
    tolerance = _tolerance(schedules, has_formula(folder, config))
    yield from compare(stored, computed, _is_input, tolerance)


def _is_input(name: str) -> bool:
    return name == "image" or name.endswith(".image")


def _tolerance(schedules: Mapping[str, list[Shape]], loose: bool) -> Callable[[str], Tolerance]:
    """The measured ones of the folders' README; `loose` is the case with formula weights."""
    small: dict[str, float] = {}
    for name, shapes in schedules.items():
        for step, shape in enumerate(shapes):
            # Normalisation of nearly constant maps amplifies rounding by up to 1e3.
            limit = {1: 1e-2, 4: 1e-3}.get(shape[0] * shape[1])
            if limit is not None:
                small |= {f"ms.{name}.rec.{step}": limit, f"ms.{name}.rec_upsampled.{step}": limit}

    def of(name: str) -> Tolerance:
        if name.startswith("weights_check."):
            return Tolerance(1e-6, 1e-9)
        if name in small:
            return Tolerance(small[name])
        if name.startswith("train.grad."):
            return Tolerance(1e-5, 1e-3)
        return Tolerance(2e-4 if loose or "rec" in name.split(".") else 2e-5)

    return of


@torch.no_grad()
def _encoded(tokenizer: VQTokenizer, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The single-scale path of `image`, and of every other stored `X.image`."""
    image = input_image(stored, "image")
    found = {
        "encoder_out": tokenizer.encoder(image),
        "latent_h": tokenizer.latent(image),
        "codebook_normalized": F.normalize(tokenizer.table(), dim=-1),
    }
    others = [name.removesuffix(".image") for name in stored if name.endswith(".image")]
    for prefix, picture in [("encode", image), *((name, stored[f"{name}.image"]) for name in others)]:
        latent = tokenizer.latent(picture)
        quantised = tokenizer.quantise(latent)
        found |= {
            f"{prefix}.latent_h": latent,
            f"{prefix}.quant": quantised.output,
            f"{prefix}.idx": quantised.ids,
            f"{prefix}.rec": tokenizer.decode(quantised.ids, (latent.shape[2], latent.shape[3])),
        }
    return found


@torch.no_grad()
def _multi_scale(
    tokenizer: VQTokenizer, stored: Mapping[str, Tensor], name: str, shapes: list[Shape]
) -> dict[str, Tensor]:
    """The published tokenizer averages before its last convolution, the published trainer after it."""
    image = stored.get(f"ms.{name}.image")
    image = input_image(stored, "image") if image is None else image
    features = tokenizer.encoder(image)
    quantised = [tokenizer.quantise(tokenizer.quant_conv(area(features, shape))) for shape in shapes]
    final = (shapes[-1][0] * tokenizer.stride, shapes[-1][1] * tokenizer.stride)
    found: dict[str, Tensor] = {}
    for step, item in enumerate(quantised):
        picture = tokenizer.decode_vectors(item.output)
        found |= {
            f"ms.{name}.quant.{step}": item.output,
            f"ms.{name}.idx.{step}": item.ids,
            f"ms.{name}.rec.{step}": picture,
            f"ms.{name}.rec_upsampled.{step}": bicubic(picture, final),
        }
    ids = tokenizer.encode(image, shapes)
    return found | {
        f"train_input.{name}.x_BLCv_wo_first_l": tokenizer.transformer_inputs(ids, shapes),
        f"train_input.{name}.gt_idx_BL": torch.cat(ids, dim=1),
    }


def _trained(tokenizer: VQTokenizer, stored: Mapping[str, Tensor], ratio: float) -> dict[str, Tensor]:
    """Losses of the single-scale path and the gradients of their sum, by official parameter name."""
    image = input_image(stored, "image")
    tokenizer.zero_grad()
    latent = tokenizer.latent(image)
    latent.retain_grad()
    quantised = tokenizer.quantise(latent)
    entropy = ratio * tokenizer.entropy(latent)
    reconstruction = tokenizer.decode_vectors(quantised.output)
    total = F.mse_loss(reconstruction, image) + quantised.codebook_loss + quantised.commitment_loss + entropy
    total.backward()
    gradients = {name: p.grad for name, p in tokenizer.named_parameters() if p.grad is not None}
    official = {f"train.grad.{name}": value for name, value in to_official(gradients).items()}
    return {
        "train.rec": reconstruction.detach(),
        "train.quant": quantised.output.detach(),
        "train.vq_loss": quantised.codebook_loss.detach(),
        "train.commit_loss": quantised.commitment_loss.detach(),
        "train.entropy_loss": entropy.detach(),
        "train.loss_total": total.detach(),
        **({} if latent.grad is None else {"train.grad.latent_h": latent.grad}),
        **official,
    }
