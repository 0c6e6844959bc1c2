"""The published diffusion head by its official names, from its weights alone.

Source: Li et al., Autoregressive Image Generation without Vector Quantization (MAR), arXiv 2406.11838;
LTH14/mar (MIT), models/diffloss.py. The network is `unified/heads/denoiser.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from unified.checkpoints.state_dict import load_strict
from unified.heads.denoiser import Denoiser
from unified.heads.transformer_layers import count_blocks

NAMES = {
    "time_embed.mlp.": "time.",
    "cond_embed.": "condition.",
    "input_proj.": "inputs.",
    "res_blocks.": "blocks.",
    "in_ln.": "norm.",
    "final_layer.linear.": "outputs.",
    "final_layer.": "",
    "adaLN_modulation.": "modulation.",
}


def our_name(official: str) -> str:
    """The name of a weight of the published head in `Denoiser`."""
    for theirs, ours in NAMES.items():
        official = official.replace(theirs, ours)
    return official


def inside(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def matrix(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """The shape (outputs, inputs) of a weight. ValueError if it is missing or no matrix."""
    if name not in state or state[name].dim() != 2:
        raise ValueError(f"weights do not fit: there is no matrix {name}")
    return state[name].shape[0], state[name].shape[1]


def denoiser_for(state: Mapping[str, Tensor]) -> Denoiser:
    """An untrained head of the sizes of published weights; names without a prefix."""
    inner, channels = matrix(state, "input_proj.weight")
    width, outputs = matrix(state, "cond_embed.weight")[1], matrix(state, "final_layer.linear.weight")[0]
    return Denoiser(width, channels, inner, count_blocks(state, "res_blocks"), outputs)


def load_head(state: Mapping[str, Tensor], prefix: str = "") -> Denoiser:
    """The head of published weights whose names begin with `prefix`. ValueError if they do not fit."""
    own = inside(state, prefix)
    denoiser = denoiser_for(own)
    load_strict(denoiser, own, our_name)
    return denoiser.eval()
