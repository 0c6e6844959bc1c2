"""How the published NAR transformers are made: their options and weights.

Source: ThisisBillhe/NAR (MIT), NAR-images/autoregressive/models and NAR-videos.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch

from unified.checkpoints.nar import NARTransformer
from unified.checkpoints.nar_blocks import Drops, NARConfig
from unified.checkpoints.state_dict import check_fit, unwrap
from unified.orders.shapes import Shapes, area

_FIELDS = {
    "dim": "width",
    "n_layer": "depth",
    "n_head": "heads",
    "vocab_size": "codes",
    "num_classes": "classes",
    "multiple_of": "multiple",
    "norm_eps": "norm_eps",
    "cls_token_num": "condition_length",
}
_DROPS = {"token_dropout_p": "token", "resid_dropout_p": "residual", "ffn_dropout_p": "feed_forward"}
_IMAGE = {"rope_base", "block_size", "model_type", "medusa_attention_num", "caption_dim"}
_VIDEO = {"max_seq_len", "latent_shape"}
_OTHERS = {"class_dropout_prob", "initializer_range", "n_kv_head"}  # without effect on what is computed here


def config_from(options: Mapping[str, Any]) -> NARConfig:
    """The config of the published constructor's options, those of a video model having a `latent_shape`.
    Unknown, missing or impossible option: ValueError."""
    video = "latent_shape" in options
    needed = {"dim", "n_layer", "n_head", "vocab_size"} | ({"latent_shape"} if video else {"block_size"})
    unknown = sorted(set(options) - set(_FIELDS) - set(_DROPS) - _OTHERS - (_VIDEO if video else _IMAGE))
    missing = sorted(needed - set(options))
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r} of the published transformer")
    if missing:
        raise ValueError(f"the options of the published transformer lack {missing[0]}")
    if options.get("n_kv_head") not in (None, options["n_head"]):
        raise ValueError(f"n_kv_head must be n_head {options['n_head']}, got {options['n_kv_head']}")
    fields = {ours: options[theirs] for theirs, ours in _FIELDS.items() if theirs in options}
    drops = Drops(**{ours: options[theirs] for theirs, ours in _DROPS.items() if theirs in options})
    return NARConfig(**fields, **(_video if video else _image)(options), drops=drops)


def _image(options: Mapping[str, Any]) -> dict[str, Any]:
    side, kind = isqrt(options["block_size"]), options.get("model_type", "c2i")
    if side * side != options["block_size"] or kind not in ("c2i", "t2i"):
        raise ValueError(
            f"block_size must be a square, model_type c2i or t2i: {options['block_size']}, {kind}"
        )
    return {
        "shapes": ((side, side),),
        "more": (options.get("medusa_attention_num", 1),),
        "caption_width": options.get("caption_dim", 2048) if kind == "t2i" else 0,
        "rope_base": options.get("rope_base", 10000.0),
    }


def _video(options: Mapping[str, Any]) -> dict[str, Any]:
    frames, height, width = options["latent_shape"]
    shapes: Shapes = ((height, width),) * frames
    if options.get("max_seq_len", area(shapes)) != area(shapes):
        raise ValueError(f"latent_shape {options['latent_shape']} holds no {options['max_seq_len']} codes")
    return {"shapes": shapes, "more": (1, 1), "video": True}


def load(options: Mapping[str, Any], state_dict: Mapping[str, Any]) -> NARTransformer:
    """A published transformer from its constructor's options and its state dict (wrappers are followed, key
    and value caches left out), in float32 and eval mode. If they do not fit: ValueError with a short
    reason."""
    found = {
        name: value for name, value in unwrap(state_dict, "transformer").items() if ".kv_cache." not in name
    }
    with torch.device("meta"):
        model = NARTransformer(config_from(options))
    check_fit(model.state_dict(), found)
    copies = {name: value.to(torch.float32, copy=True) for name, value in found.items()}
    model.load_state_dict(copies, assign=True)
    return model.eval()
