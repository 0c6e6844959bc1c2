"""FVQ's published tokenizer: LlamaGen's networks around a codebook that a bridge generates.

It is loaded as it is meant to be used: the codebook is computed once and becomes a plain table, without
normalisation; both forms of the bridge are told apart by their weights. `config.json` has LlamaGen's options
and the bridge's (`head_hidden_size`, `num_heads`, `patch_size`, `depth`, `mlp_ratio`). Source: arXiv
2509.10140, yfChang-cv/FVQ (no licence: written from the reference vectors' description). Test:
tests/unified/checkpoints/test_published_tokenizers.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unified.checkpoints import llamagen_tokenizer
from unified.checkpoints.folder import read_state
from unified.checkpoints.fvq.network import Bridge, ModulatedBridge, config_of
from unified.checkpoints.state_dict import load_strict, unwrap
from unified.tokenizers.vq import VQTokenizer

OWN, TABLE, BRIDGE = "quantize.", "embedding.weight", "qbridge."
BUFFER = "pos_embed"  # of the modulated form; computed


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a folder says that its codebook is generated."""
    return config.get("case", "fvq") == "fvq" and {"codebook_size", "head_hidden_size"} <= set(config)


@torch.no_grad()
def load(folder: Path, config: Mapping[str, Any]) -> VQTokenizer:
    """In eval mode. ValueError for a codebook without networks, or for weights that do not fit."""
    state = unwrap(read_state(folder, config), "tokenizer")
    if not any(name.startswith("encoder.") for name in state):
        raise ValueError(f"{folder}: FVQ's folder is a codebook, without networks that read images")
    own = {name.removeprefix(OWN): value.float() for name, value in state.items() if name.startswith(OWN)}
    if TABLE not in own:
        raise ValueError(f"{folder}: the weights lack {OWN}{TABLE}")
    bridge_state = {
        name.removeprefix(BRIDGE): value for name, value in own.items() if name.startswith(BRIDGE)
    }
    modulated = any(name.startswith("y_embedder.") for name in bridge_state)
    bridge: Any = (ModulatedBridge if modulated else Bridge)(config_of(config, own))
    if modulated and BUFFER not in bridge_state:
        bridge_state[BUFFER] = bridge.pos_embed
    load_strict(bridge, bridge_state)
    plain = {name: value for name, value in state.items() if not name.startswith(OWN)}
    plain[OWN + TABLE] = bridge(own[TABLE])
    options = {name: value for name, value in config.items() if name in llamagen_tokenizer.DEFAULTS}
    wanted = llamagen_tokenizer.config_from({**options, "codebook_l2_norm": False})
    return llamagen_tokenizer.load(wanted, plain)
