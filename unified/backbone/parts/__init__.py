"""Parts that are plugged in around layers (`LayerPart`). Imports `backbone` and what lies below it.

`Session(parts=)` and `UnifiedModel.forward(parts=)` take them. They are modules of their own: a recipe trains
and saves them beside the model. To add one, write a class with the methods of `LayerPart` that it needs and
give it a line in `PARTS`. At its start a part leaves the model's outputs bit for bit as they are."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from unified.backbone.layer_pass import LayerPart, Memory
from unified.backbone.parts.adapter import Adapter, AdapterConfig
from unified.backbone.parts.cross_attention import CrossAttention, CrossAttentionConfig
from unified.backbone.parts.prefix import Prefix, PrefixConfig
from unified.backbone.parts.reference_attention import ReferenceAttention, ReferenceAttentionConfig
from unified.backbone.parts.scale_aligned import ScaleAlignedSource
from unified.backbone.parts.scale_control import ScaleControl, ScaleControlConfig
from unified.backbone.parts.scale_memory import ScaleMemory, ScaleMemoryConfig
from unified.backbone.parts.source_keys import SourceKeys

PARTS: dict[str, Callable[..., nn.Module]] = {
    "adapter": lambda **options: Adapter(AdapterConfig(**options)),
    "cross_attention": lambda **options: CrossAttention(CrossAttentionConfig(**options)),
    "prefix": lambda **options: Prefix(PrefixConfig(**options)),
    "scale_memory": lambda **options: ScaleMemory(ScaleMemoryConfig.of(**options)),
}
CONTROLS: dict[str, Callable[..., nn.Module]] = {  # their `reading(control, plan)` is what passes are handed
    "scale_control": lambda **options: ScaleControl(ScaleControlConfig(**options)),
    "reference_attention": lambda **options: ReferenceAttention(ReferenceAttentionConfig(**options)),
}

__all__ = [
    "CONTROLS",
    "PARTS",
    "Adapter",
    "AdapterConfig",
    "CrossAttention",
    "CrossAttentionConfig",
    "LayerPart",
    "Memory",
    "Prefix",
    "PrefixConfig",
    "ReferenceAttention",
    "ReferenceAttentionConfig",
    "ScaleAlignedSource",
    "ScaleControl",
    "ScaleControlConfig",
    "ScaleMemory",
    "ScaleMemoryConfig",
    "SourceKeys",
]
