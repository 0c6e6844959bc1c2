"""Decoders of `transformers`, whose layers attend as the pass that they are handed says."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import AttentionInterface, AutoConfig, AutoModel

from unified.backbone.decoder import ALONE
from unified.backbone.layer_pass import Pass
from unified.backbone.qwen3_config import Qwen3Config
from unified.backbone.windows import NAME as WINDOWED


def build(config: Any, pretrained: bool) -> Any:
    """The library's decoder of a configuration, with first weights."""
    if isinstance(config, Qwen3Config):
        config = AutoConfig.for_model(**config.to_dict())
    config._attn_implementation = WINDOWED if pretrained else "unified"
    return AutoModel.from_config(config)


def attend_in_pass(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: object,
    scaling: float,
    run: Pass | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """The attention function of `transformers` under which decoders are built here: query [R, H, n, D], key
    and value [R, G, n, D] -> [R, n, H, D]. ValueError for a decoder that is called by itself: its hidden
    states would be those of causal text, and log-probabilities made of them wrong."""
    if run is None:
        raise ValueError(ALONE)
    out = run.attention(module.layer_idx, query, key, value, scaling)
    return out.contiguous(), None


AttentionInterface.register("unified", attend_in_pass)
for _name in ("by_sample", "by_block", "by_length"):  # names that a model's configuration may give
    AttentionInterface.register(_name, attend_in_pass)
