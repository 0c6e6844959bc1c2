"""Keys and values that were computed elsewhere, such as those of a source image, in some layers.

They take part in the softmax of the stream's own attention, as in VAREdit (arXiv 2508.15772), whose first
layer also sees keys of the source image. Rows without any, such as null rows of guidance, are left as they
are. Test: tests/unified/backbone/test_parts.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from unified.backbone.layer_pass import LayerPart, Memory, Pass
from unified.backbone.parts.rows import of_pass


class SourceKeys(LayerPart):
    """`pairs`: by layer, keys and values, each [B, G, k, D] for the B rows of a batch or session; `mask` [B,
    k] bool: which of them a row sees (None: all). Parameters in place of constants are a prefix in the
    softmax of the stream."""

    adds_keys = True

    def __init__(self, pairs: Mapping[int, tuple[Tensor, Tensor]], mask: Tensor | None = None) -> None:
        for layer, (key, value) in pairs.items():
            if key.shape != value.shape or key.ndim != 4:
                raise ValueError(
                    f"layer {layer} needs keys and values of one shape [rows, kv heads, k, head width], "
                    f"got {tuple(key.shape)} and {tuple(value.shape)}"
                )
        self.pairs, self.mask = dict(pairs), mask

    def memory(self, layer: int, run: Pass) -> Memory | None:
        if layer not in self.pairs:
            return None
        count, given = len(run.index.sample), len(self.pairs[layer][0])
        if (run.rows.start or 0) >= given:
            return None  # null rows alone
        key, value = (of_pass(x, count, run) for x in self.pairs[layer])
        mask = self.mask
        if mask is None and count > given:
            mask = torch.ones(given, key.shape[2], dtype=torch.bool, device=key.device)
        return Memory(key, value, None if mask is None else of_pass(mask, count, run))
