"""What differs between families: the features before the connector, the connector, the ids around an image.

To add a family, write its three functions and give it a line in `FAMILIES`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unified.heads.latents import Connector, gemma_connector, gemma_pooled, qwen_connector
from unified.readers.vision_tower import GRID


@dataclass(frozen=True)
class Family:
    """`features`: a model and what `vision_tower.image_inputs` gives -> for each image, what its connector
    reads [n * merge, V]. `connector`: of a model. `begin`, `end`: names in its configuration of the ids
    around an image. `projector`: the name of the connector's module."""

    features: Callable[[Any, Mapping[str, Any]], list[Tensor]]
    connector: Callable[[Any], Connector]
    begin: str
    end: str
    projector: str


def family_of(model: Any) -> Family:
    """ValueError for a family that no vision head is made for."""
    kind = model.config.model_type
    if kind not in FAMILIES:
        raise ValueError(f"{kind} has no latent sketches: choose a model of {', '.join(FAMILIES)}")
    return FAMILIES[kind]


# Gemma 3 ----------------------------------------------------------------------------------------------------


def _gemma_features(model: Any, inputs: Mapping[str, Any]) -> list[Tensor]:
    hidden = model.model.vision_tower(pixel_values=inputs["pixel_values"]).last_hidden_state
    return list(gemma_pooled(model.model.multi_modal_projector, hidden))


# Qwen2.5-VL -------------------------------------------------------------------------------------------------


class _Grouped(nn.Module):
    """In place of a patch merger: `merge` vectors in a row, and nothing else."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, hidden: Tensor) -> Tensor:
        """[N * merge, V] -> [N, merge * V]."""
        return hidden.reshape(-1, self.width)


def _qwen_features(model: Any, inputs: Mapping[str, Any]) -> list[Tensor]:
    """The tower undoes the order of its windows after the merger: so it runs with a merger that merges
    nothing, on a copy that shares its weights."""
    tower, connector = copy.copy(model.model.visual), qwen_connector(model.model.visual.merger)
    width = tower.merger.ln_q.weight.shape[0]
    tower._modules = {**tower._modules, "merger": _Grouped(connector.merge * width)}
    pixels = inputs["pixel_values"].type(tower.dtype)
    grouped: Tensor = tower(pixels, grid_thw=inputs[GRID]).pooler_output
    counts = (inputs[GRID].prod(-1) // connector.merge).tolist()
    return [part.reshape(-1, width) for part in grouped.split(counts)]


FAMILIES: dict[str, Family] = {
    "gemma3": Family(
        features=_gemma_features,
        connector=lambda model: gemma_connector(model.model.multi_modal_projector),
        begin="boi_token_index",
        end="eoi_token_index",
        projector="model.multi_modal_projector",
    ),
    "qwen2_5_vl": Family(
        features=_qwen_features,
        connector=lambda model: qwen_connector(model.model.visual.merger),
        begin="vision_start_token_id",
        end="vision_end_token_id",
        projector="model.visual.merger",
    ),
}


@torch.no_grad()
def frozen_features(model: Any, inputs: Mapping[str, Any]) -> list[Tensor]:
    """For each image, what the connector reads [n * merge, V]; the vision tower is never trained here."""
    return family_of(model).features(model, inputs)
