"""Depth policies: which layers a step of an image runs. Imports `backbone` and what lies below it.

To add one, write a class with the method of `Depth` and give it a line in `DEPTHS`; sessions take one
(`Session(depth=)`), and so does `UnifiedModel.forward`."""

from __future__ import annotations

from collections.abc import Callable

from unified.backbone.layer_pass import Depth
from unified.depth.all_layers import AllLayers
from unified.depth.variant import VARiant

DEPTHS: dict[str, Callable[..., Depth]] = {"all": AllLayers, "variant": VARiant}

__all__ = ["DEPTHS", "AllLayers", "Depth"]
