"""Structured pruning of a decoder's MLPs: the neurons of smallest weight norm are removed from every layer.

    python -m unified.train.prune --model FOLDER --out FOLDER --mlp 960

A neuron's score is the product of the norms of its three weight vectors (gate, up and down projection), in
the manner of magnitude pruning of filters (Li et al., arXiv 1608.08710). The pruned model needs further
training (`start=FOLDER` of a recipe).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from torch import Tensor
from unified.train.rewrite import like, parser, rewrite

from unified.apps.commands.common import count
from unified.model import UnifiedModel
from unified.stream.processor import Processor

READS, WRITES = ("gate_proj", "up_proj"), "down_proj"


@torch.no_grad()
def pruned(model: UnifiedModel, mlp: int) -> UnifiedModel:
    """A copy whose layers have `mlp` neurons each. ValueError for a decoder without gated MLPs, or with no
    more neurons than that."""
    before = getattr(model.backbone.config, "intermediate_size", 0)
    networks = [getattr(layer, "mlp", None) for layer in getattr(model.backbone, "layers", [])]
    if not networks or not all(hasattr(network, name) for network in networks for name in (*READS, WRITES)):
        raise ValueError(f"{type(model.backbone).__name__} has no gated MLPs to prune")
    if not 0 < mlp < before:
        raise ValueError(f"the MLPs have {before} neurons: mlp must be a smaller number than that, got {mlp}")
    smaller = like(model, backbone={**model.config.to_dict()["backbone"], "intermediate_size": mlp})
    state = model.state_dict()
    for number, layer in enumerate(model.backbone.layers):
        kept = _scores(layer).topk(mlp).indices.sort().values
        name = f"backbone.layers.{number}.mlp."
        for part in READS:
            state[f"{name}{part}.weight"] = state[f"{name}{part}.weight"][kept]
        state[f"{name}{WRITES}.weight"] = state[f"{name}{WRITES}.weight"][:, kept]
    smaller.load_state_dict(state)
    return smaller.eval()


def _scores(layer: Any) -> Tensor:
    """[neurons]: product of the norms of each neuron's weights: gate, up (both scaled by the norm), down."""
    scale = layer.post_attention_layernorm.weight
    read = [(getattr(layer.mlp, name).weight * scale).norm(dim=1) for name in READS]
    return read[0] * read[1] * getattr(layer.mlp, WRITES).weight.norm(dim=0)


def main(arguments: list[str] | None = None) -> int:
    options = parser("prune", "Structured pruning of a decoder's MLPs.")
    options.add_argument("--mlp", type=count, required=True, help="neurons that each layer keeps")
    return rewrite(options, _change, arguments)


def _change(model: UnifiedModel, _: Processor, options: argparse.Namespace) -> tuple[UnifiedModel, str]:
    layers = len(getattr(model.backbone, "layers", []))
    return pruned(model, options.mlp), f"{options.mlp} neurons in each of {layers} layers"


if __name__ == "__main__":
    sys.exit(main())
