"""Pixels as READ embeddings, by a pretrained model's own vision tower and projector (`get_image_features`).

What its image processor makes of pictures becomes one vector for each placeholder in the ids, and, for
multimodal rotary positions (Qwen2-VL, arXiv 2409.12191), where each stands by the model's own rule. Both
travel beside the ids as values. The tower stays as it is: its features are computed without gradients.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unified.stream.base_words import FEATURES, PLACES

GRID = "image_grid_thw"  # patches of each image of the Qwen-VL family: [images, (time, height, width)]


@dataclass(frozen=True, kw_only=True)
class VisionTowerConfig:
    """`model`: the configuration of the whole image-text model of `transformers`, as plain data."""

    model: Mapping[str, Any]

    def __post_init__(self) -> None:
        if "model_type" not in self.model or "text_config" not in self.model:
            raise ValueError("a vision tower needs the configuration of an image-text model of transformers")


class VisionTowerReader(nn.Module):
    """Tower and projector of an image-text model, without its decoder. `deeper`: how many of the decoder's
    first layers are given features of their own (DeepStack, arXiv 2406.04334)."""

    def __init__(
        self, config: VisionTowerConfig, width: int, embed: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.config, self.width = config, width
        self.tower = build_tower(config.model)
        self.tower.requires_grad_(False)
        vision = getattr(self.tower.config, "vision_config", None)
        self.deeper = len(getattr(vision, "deepstack_visual_indexes", None) or ())

    def values(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """What an image processor returns -> `image_values`."""
        return image_values(self.tower, inputs)

    def forward(self, values: Tensor) -> Tensor:
        """Features [N, D (1 + L)] -> input embeddings [N, D]. ValueError for another width."""
        if values.shape[-1] != self.width * (1 + self.deeper):
            raise ValueError(
                f"image features of width {values.shape[-1]}, the vision tower's have "
                f"{self.width * (1 + self.deeper)}"
            )
        return values[..., : self.width]


def build_tower(config: Mapping[str, Any]) -> Any:
    """The model of a configuration without its decoder, with fresh weights: it keeps `get_image_features`
    and its rule of positions."""
    from transformers import AutoConfig, AutoModel  # takes longer to import than torch

    text = dict(config["text_config"])
    layers = text.get("num_hidden_layers")
    small = {name: one[:1] for name, one in text.items() if isinstance(one, list) and len(one) == layers}
    text |= {"num_hidden_layers": 1, "vocab_size": 1, "pad_token_id": None, **small}  # never run
    settings = AutoConfig.for_model(**{**config, "text_config": text})
    model = AutoModel.from_config(settings, attn_implementation="sdpa")
    decoder = model.get_decoder()
    for name, module in list(model.named_children()):
        if module is decoder:
            delattr(model, name)
    if decoder is model or not hasattr(model, "get_image_features"):
        raise ValueError(f"{config['model_type']} has no vision tower that could be read by itself")
    return model


# What a tower gives -----------------------------------------------------------------------------------------


def image_values(model: Any, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """What an image processor returns -> FEATURES of all placeholders [N, D (1 + L)] and, for multimodal
    rotary positions, their PLACES [N, 5] (`layout.features`); empty without images."""
    given = image_inputs(model, inputs)
    if not given:
        return {}
    features = features_of(model, given)
    found = {FEATURES: torch.cat(features)}
    if GRID in given and hasattr(_inner(model), "get_rope_index"):
        found[PLACES] = places_of(model, [len(part) for part in features], given)
    return found


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


def places_of(model: Any, counts: Sequence[int], inputs: Mapping[str, Any]) -> Tensor:
    """[N, 5] (`layout.features`) of images with `counts` placeholders each, by the model's own rule of
    multimodal rotary positions."""
    found = []
    for count, grid in zip(counts, inputs[GRID], strict=True):
        kinds = torch.tensor([[1] * count + [0]])  # the image, and one id of text after it
        ids = torch.zeros_like(kinds)
        positions, _ = _inner(model).get_rope_index(
            ids, mm_token_type_ids=kinds, image_grid_thw=grid[None].cpu()
        )
        places = torch.zeros(count, 5)
        places[:, :3], places[0, 3] = positions[:, 0, :-1].T, 1
        places[:, 4] = positions[0, 0, -1]
        found.append(places)
    return torch.cat(found)


def _inner(model: Any) -> Any:
    """The model below a language-modelling head, or the model itself."""
    return getattr(model, "model", model)


def _joined(features: Tensor) -> Tensor:
    """[..., D] -> [n, D]."""
    return features.reshape(-1, features.shape[-1])
