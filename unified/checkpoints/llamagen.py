"""LlamaGen's transformers: an image's codes row by row, each predicted from the position before it, told a
class or a caption (arXiv 2406.06525).

Blocks, rotary embedding and names of parameters are those that NAR took over, so the network is
`NARTransformer` with one head, and `nar_generation.Prompted` writes with it in a session. A caption is
features of a text encoder (flan-t5-xl for the released weights). Source: FoundationVision/LlamaGen (MIT),
autoregressive/models/gpt.py. Different from the published code: the last code is run too, and read nowhere.
Not here: grouped heads of keys and values, which no released model has. Tests:
tests/unified/checkpoints/test_llamagen.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints import nar_published
from unified.checkpoints.nar import NARTransformer
from unified.checkpoints.nar_blocks import NARConfig
from unified.checkpoints.state_dict import check_fit, unwrap

RELEASED = {  # layers, heads, width; the last size is in the code alone
    "B": (12, 12, 768),
    "L": (24, 16, 1024),
    "XL": (36, 20, 1280),
    "XXL": (48, 24, 1536),
    "3B": (24, 32, 3200),
    "XXXL": (48, 40, 2560),
}
OPTIONS = {"dim", "n_layer", "n_head", "n_kv_head", "multiple_of", "ffn_dim_multiplier", "rope_base",
           "norm_eps", "initializer_range", "token_dropout_p", "attn_dropout_p", "resid_dropout_p",
           "ffn_dropout_p", "drop_path_rate", "num_classes", "caption_dim", "class_dropout_prob",
           "model_type", "vocab_size", "cls_token_num", "block_size", "max_batch_size",
           "max_seq_len"}  # fmt: skip
_ABSENT = ("ffn_dim_multiplier", "attn_dropout_p", "drop_path_rate")  # must be None or 0
_UNUSED = ("max_batch_size", "max_seq_len")  # room for keys and values
_TABLE = "cls_embedding.embedding_table.weight"
_CAPTION = "cls_embedding.uncond_embedding"
_BUFFERS = ("freqs_cis", "causal_mask")


def config_from(options: Mapping[str, Any]) -> NARConfig:
    """The config of the published constructor's options. Unknown, missing or impossible option:
    ValueError."""
    unknown = sorted(set(options) - OPTIONS)
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r} of the published transformer")
    wrong = next((name for name in _ABSENT if options.get(name)), None)
    if wrong is not None:
        raise ValueError(f"{wrong} must be 0 or absent, got {options[wrong]}")
    own = {name: value for name, value in options.items() if name not in (*_ABSENT, *_UNUSED)}
    return replace(nar_published.config_from(own), more=())


def released(name: str, *, side: int = 16, captions: bool = False) -> NARConfig:
    """A released size ("B", "L", "XL", "XXL", "3B") for maps of `side` x `side`: 16, 24 or 32. `captions`:
    told 120 features of a T5-XL encoder in place of one of 1000 classes."""
    if name not in RELEASED:
        raise ValueError(f"unknown size {name!r}: released are {', '.join(RELEASED)}")
    depth, heads, width = RELEASED[name]
    told = {"model_type": "t2i", "cls_token_num": 120, "caption_dim": 2048} if captions else {}
    sizes = {"dim": width, "n_layer": depth, "n_head": heads, "vocab_size": 16384, "block_size": side**2}
    return config_from({**sizes, "num_classes": 1000, **told})


def load(options: Mapping[str, Any], state_dict: Mapping[str, Any]) -> NARTransformer:
    """A published transformer from its constructor's options and its state dict (wrappers are followed;
    caches and masks are left out), in float32 and eval mode. What the options do not tell is taken from the
    weights, but for the 16 x 16 codes that are the default. ValueError with a short reason if they do not
    fit."""
    found = {
        name: value
        for name, value in unwrap(state_dict, "transformer").items()
        if ".kv_cache." not in name and name not in _BUFFERS
    }
    with torch.device("meta"):
        model = NARTransformer(config_from({**_told(found), **options}))
    check_fit(model.state_dict(), found)
    copies = {name: value.to(torch.float32, copy=True) for name, value in found.items()}
    model.load_state_dict(copies, assign=True)
    return model.eval()


def _told(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options that weights tell."""
    told: dict[str, Any] = {"block_size": 256}
    codes, classes, caption = (state_dict.get(name) for name in ("tok_embeddings.weight", _TABLE, _CAPTION))
    if codes is not None:
        told["vocab_size"] = len(codes)
    if classes is not None:
        told["num_classes"] = len(classes) - 1  # the last one is none
    if caption is not None and caption.dim() == 2:
        told |= {"model_type": "t2i", "cls_token_num": caption.shape[0], "caption_dim": caption.shape[1]}
    return told
