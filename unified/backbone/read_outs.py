"""Heads beside the first, each behind blocks of its own: an order that reads a slot out at several places has
one for each direction (NAR, arXiv 2503.10696; the form is Medusa's, arXiv 2401.10774)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from unified.backbone.decoder import LibraryLayers
from unified.backbone.layer_pass import Pass


class ReadOut(nn.Module):
    """`blocks` decoder layers like the backbone's last, a norm, and a head. They come after `after` layers,
    whose states they read before the last norm."""

    def __init__(self, decoder: Any, after: int, blocks: int, head: nn.Module) -> None:
        super().__init__()
        copies: list[Any] = [copy.deepcopy(decoder.layers[-1]) for _ in range(blocks)]
        for number, block in enumerate(copies):
            block.self_attn.layer_idx = after + number
        self.blocks = nn.ModuleList(copies)
        self.norm = copy.deepcopy(decoder.norm)
        self.head = head

    def layers(self, decoder: Any, after: int) -> ReadOutLayers:
        """Its layers for the loop."""
        return ReadOutLayers(decoder, self.blocks, after, self.norm)


def make_read_outs(decoder: Any, after: int, heads: Sequence[nn.Module]) -> nn.ModuleList:
    """Of heads beside the first, each behind one block of its own, which come after `after` layers."""
    return nn.ModuleList(ReadOut(decoder, after + number, 1, head) for number, head in enumerate(heads))


class ReadOutLayers(LibraryLayers):
    """Layers that share the decoder's rotary embedding and come after others, with a norm of their own."""

    def __init__(self, decoder: Any, layers: nn.ModuleList, after: int, norm: nn.Module) -> None:
        super().__init__(decoder)
        self.layers, self.after, self.norm = layers, after, norm

    def layer(self, number: int, hidden: Tensor, shared: Any, run: Pass) -> Tensor:
        return self._through(self.layers[number - self.after], -1, hidden, shared, run)

    def end(self, hidden: Tensor, run: Pass) -> Tensor:
        normed: Tensor = self.norm(hidden)
        return normed
