"""The published LlamaGen tokenizers: their options, and their names for weights.

One codebook on one grid, so `VQTokenizer` is their form, and FlexVAR's names are theirs. Codes are as long
as 1 if they are normalised, whatever the stored table holds. Source: FoundationVision/LlamaGen (MIT),
tokenizer/tokenizer_image/vq_model.py; arXiv 2406.06525. Tests:
tests/unified/checkpoints/test_llamagen_tokenizer.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.flexvar_tokenizer import official, to_official
from unified.checkpoints.state_dict import check_fit, unwrap
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.vq import VQConfig, VQTokenizer

RELEASED = {"VQ-16": (1, 1, 2, 2, 4), "VQ-8": (1, 2, 2, 4)}  # multipliers of widths
DEFAULTS = {
    "codebook_size": 16384,
    "codebook_embed_dim": 8,
    "codebook_l2_norm": True,
    "codebook_show_usage": True,
    "commit_loss_beta": 0.25,
    "entropy_loss_ratio": 0.0,
    "encoder_ch_mult": None,
    "decoder_ch_mult": None,
    "z_channels": 256,
    "dropout_p": 0.0,
    "ch_mult": RELEASED["VQ-16"],  # of both halves; these three are fixed in the published code
    "ch": 128,
    "num_res_blocks": 2,
}
USAGE = "quantize.codebook_used"  # recent ids, of which training computes the usage: not learnt
OTHERS = ("discriminator.", USAGE)  # in checkpoints of training


def config_from(options: Mapping[str, Any]) -> VQConfig:
    """The config of the published options. ValueError for an unknown one or what cannot be built."""
    unknown = sorted(set(options) - set(DEFAULTS))
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r} of the published tokenizer")
    own = {**DEFAULTS, **options}

    def half(name: str) -> NetworkConfig:
        return NetworkConfig(
            latent=own["z_channels"],
            width=own["ch"],
            multipliers=tuple(own[name] or own["ch_mult"]),
            blocks=own["num_res_blocks"],
            dropout=own["dropout_p"],
        )

    return VQConfig(
        codes=own["codebook_size"],
        dim=own["codebook_embed_dim"],
        encoder=half("encoder_ch_mult"),
        decoder=half("decoder_ch_mult"),
        normalised=own["codebook_l2_norm"],
        commitment=own["commit_loss_beta"],
    )


def released(name: str) -> VQConfig:
    """ "VQ-16" (16 x 16 pixels a code) or "VQ-8"."""
    if name not in RELEASED:
        raise ValueError(f"unknown tokenizer {name!r}: released are {', '.join(RELEASED)}")
    return config_from({"ch_mult": RELEASED[name]})


def load(config: VQConfig, state_dict: Mapping[str, Any]) -> VQTokenizer:
    """A published tokenizer from its state dict (wrappers are followed; a discriminator and the buffer of
    recent ids are passed over), in eval mode. ValueError with a short reason if the weights do not fit."""
    found = {
        name: value for name, value in unwrap(state_dict, "tokenizer").items() if not name.startswith(OTHERS)
    }
    with torch.device("meta"):
        tokenizer = VQTokenizer(config)
    ours = tokenizer.state_dict()
    check_fit(to_official(ours), found)
    filled = {name: found[official(name)].to(torch.float32, copy=True) for name in ours}
    tokenizer.load_state_dict(filled, assign=True)
    return tokenizer.eval()


def export(tokenizer: VQTokenizer) -> dict[str, Tensor]:
    """The tokenizer's weights under the official names."""
    return to_official(tokenizer.state_dict())
