"""How the published next-scale transformers are made: options, released sizes, first weights, training loss.

Source: FoundationVision/VAR (MIT), models/var.py and trainer.py; jiaosiyu1999/FlexVAR (MIT) uses the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.adaln import Block, Drops, TransformerConfig
from unified.checkpoints.next_scale import NextScaleTransformer
from unified.checkpoints.state_dict import check_fit

SCALES_256 = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
SCALES_512 = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)

BUFFERS = {"lvl_1L", "attn_bias_for_masking", "zero_k_bias"}

_FIELDS = {
    "num_classes": "classes",
    "depth": "depth",
    "embed_dim": "width",
    "num_heads": "heads",
    "mlp_ratio": "mlp_ratio",
    "norm_eps": "norm_eps",
    "shared_aln": "shared_modulation",
    "attn_l2_norm": "unit_attention",
}
_DROPS = {"drop_rate": "hidden", "attn_drop_rate": "attention", "drop_path_rate": "path"}
# Read elsewhere, or without effect on what is computed here.
_OTHERS = {"patch_nums", "cond_drop_rate", "token_dropout_p", "flash_if_available", "fused_if_available"}


def config_from(options: Mapping[str, Any], *, codes: int, code_width: int) -> TransformerConfig:
    """The config of the published constructor's options. Unknown or missing option: ValueError."""
    unknown = sorted(set(options) - set(_FIELDS) - set(_DROPS) - _OTHERS)
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r} of the published transformer")
    if "patch_nums" not in options:
        raise ValueError("the options of the published transformer lack patch_nums, the sizes of its maps")
    fields = {ours: options[theirs] for theirs, ours in _FIELDS.items() if theirs in options}
    drops = Drops(**{ours: options[theirs] for theirs, ours in _DROPS.items() if theirs in options})
    shapes = tuple((side, side) for side in options["patch_nums"])
    return TransformerConfig(codes=codes, code_width=code_width, shapes=shapes, drops=drops, **fields)


def released(depth: int, *, pixels: int = 256, codes: int = 4096) -> TransformerConfig:
    """The released sizes: width 64 per layer, as many heads as layers, 1000 classes; 512 pixels with shared
    modulation. FlexVAR's tokenizer has 8912 codes (not 8192)."""
    if pixels not in (256, 512):
        raise ValueError(f"released for 256 and 512 pixels, got {pixels}")
    options = {
        "num_classes": 1000,
        "depth": depth,
        "embed_dim": 64 * depth,
        "num_heads": depth,
        "drop_path_rate": 0.1 * depth / 24,
        "shared_aln": pixels == 512,
        "attn_l2_norm": True,
        "patch_nums": SCALES_256 if pixels == 256 else SCALES_512,
    }
    return config_from(options, codes=codes, code_width=32)


@torch.no_grad()
def initialise(
    model: NextScaleTransformer, *, deviation: float | None = None, generator: torch.Generator | None = None
) -> None:
    """The published first weights: small gates (1e-5) and a nearly constant head (0.02). `deviation` is
    that of all linear and embedding weights, sqrt(1 / (3 width)) by default. FlexVAR's positions keep
    their waves."""
    config = model.config
    deviation = math.sqrt(1 / config.width / 3) if deviation is None else deviation
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            _normal(module.weight, deviation, generator)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()
    for name, parameter in model.named_parameters():
        if name == "pos_start" or (name == "pos_1LC" and parameter.dim() == 3):
            _normal(parameter, math.sqrt(1 / config.width / 3), generator)
        elif name.endswith(("q_bias", "v_bias")):
            parameter.zero_()
        elif name.endswith("scale_mul_1H11"):
            parameter.fill_(math.log(4))
    model.head.weight.mul_(0.02)
    _last_weight(model.head_nm.ada_lin).mul_(0.5)
    for block in model.layers():
        block.attn.proj.weight.div_(math.sqrt(2 * config.depth))
        block.ffn.fc2.weight.div_(math.sqrt(2 * config.depth))
        _initialise_modulation(block, config.width, generator)


def _initialise_modulation(block: Block, width: int, generator: torch.Generator | None) -> None:
    """Gates (the first two of six) start at almost nothing, scales and shifts at half."""
    if hasattr(block, "ada_gss"):
        block.ada_gss.normal_(0, 1 / math.sqrt(width), generator=generator)
        gates, rest = block.ada_gss[:, :, :2], block.ada_gss[:, :, 2:]
    else:
        weight = _last_weight(block.ada_lin)
        gates, rest = weight[: 2 * width], weight[2 * width :]
    gates.mul_(1e-5)
    rest.mul_(0.5)


def _last_weight(layers: nn.Sequential) -> Tensor:
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    return last.weight


def _normal(weight: Tensor, deviation: float, generator: torch.Generator | None) -> None:
    nn.init.trunc_normal_(weight, std=deviation, generator=generator)


def training_loss(logits: Tensor, codes: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The published loss: cross entropy of every code of every map, all of equal weight. logits [B, L, V],
    codes [B, L] -> scalar."""
    return F.cross_entropy(logits.flatten(0, 1), codes.flatten(), label_smoothing=label_smoothing)


def load_weights(model: NextScaleTransformer, state_dict: Mapping[str, Tensor]) -> None:
    """Take over published weights (a copy in float32). ValueError with a short reason if they do not fit;
    the model, which may be on the meta device, is then unchanged."""
    found = without_buffers(state_dict)
    check_fit(model.state_dict(), found)
    copies = {name: value.to(torch.float32, copy=True) for name, value in found.items()}
    model.load_state_dict(copies, assign=True)


def sizes_of(state_dict: Mapping[str, Tensor]) -> tuple[int, int]:
    """(codes, code width) that published weights are made for; 2 where they lack the matrix that tells."""
    found = [state_dict.get(name) for name in ("head.weight", "word_embed.weight")]
    codes, width = (
        matrix if matrix is not None and matrix.dim() == 2 else torch.empty(2, 2) for matrix in found
    )
    return codes.shape[0], width.shape[1]


def without_buffers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published state dicts carry masks, levels and zeros, none of them learnt. A bias of keys that is not
    zero would be another model: ValueError."""
    for name, value in state_dict.items():
        if name.endswith("zero_k_bias") and value.any():
            raise ValueError(
                f"weights do not fit: expected {name} to be zero, found {float(value.abs().max()):.3g}"
            )
    return {name: value for name, value in state_dict.items() if name.rsplit(".", 1)[-1] not in BUFFERS}
