"""A reader: pixels -> embeddings, by a model's own vision tower and projector (`get_image_features`)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

GRID = "image_grid_thw"  # patches of each image of the Qwen-VL family: [images, (time, height, width)]


def image_inputs(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Of what an image processor returns, what `get_image_features` of the model takes, on its device; empty
    where no image was given."""
    if inputs.get("pixel_values") is None:
        return {}
    taken = inspect.signature(model.get_image_features).parameters
    found = {name: value for name, value in inputs.items() if name in taken}
    return {name: v.to(model.device) if isinstance(v, Tensor) else v for name, v in found.items()}


@torch.no_grad()
def features_of(model: Any, inputs: Mapping[str, Any]) -> list[Tensor]:
    """What `image_inputs` gives -> for each image, or each crop of one, the features [n, D] of its
    placeholders. With further features for the first L layers (DeepStack, arXiv 2406.04334; Qwen3-VL) [n, D
    (1 + L)]."""
    out = model.get_image_features(**inputs, return_dict=True)
    found = [_joined(part) for part in out.pooler_output]
    deeper = getattr(out, "deepstack_features", None) or ()
    layers = [[_joined(part) for part in layer] for layer in deeper]
    return [torch.cat(parts, dim=-1) for parts in zip(found, *layers, strict=True)]


def _joined(features: Tensor) -> Tensor:
    """[..., D] -> [n, D]."""
    return features.reshape(-1, features.shape[-1])


def places_of(model: Any, counts: Sequence[int], inputs: Mapping[str, Any]) -> Tensor:
    """[N, 5] (`layout.lay_out`) of images with `counts` placeholders each, by the model's own rule of
    multimodal rotary positions."""
    found = []
    for count, grid in zip(counts, inputs[GRID], strict=True):
        kinds = torch.tensor([[1] * count + [0]])  # the image, and one id of text after it
        ids = torch.zeros_like(kinds)
        positions, _ = model.model.get_rope_index(
            ids, mm_token_type_ids=kinds, image_grid_thw=grid[None].cpu()
        )
        places = torch.zeros(count, 5)
        places[:, :3], places[0, 3] = positions[:, 0, :-1].T, 1
        places[:, 4] = positions[0, 0, -1]
        found.append(places)
    return torch.cat(found)
