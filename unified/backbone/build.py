"""The decoder of a configuration: our own of the default kind, the library's of every other."""

from __future__ import annotations

from typing import Any

from unified.backbone.qwen3_config import is_default
from unified.backbone.qwen3_decoder import Qwen3Decoder


def build_decoder(config: Any, *, pretrained: bool = False) -> Any:
    """A decoder with first weights. `pretrained`: one that a published model's weights come into, whose
    layers stay the library's. ValueError for a configuration that nothing is known of."""
    if not pretrained and is_default(config):
        return Qwen3Decoder(config)
    from unified.backbone import library

    return library.build(config, pretrained)
