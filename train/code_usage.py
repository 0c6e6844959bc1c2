"""Usage and perplexity of codes by the size of the map."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from unified.tokenizers.quantise import usage
from unified.tokenizers.resize import Shape
from unified.tokenizers.visual import TrainableTokenizer


class Window:
    """Ids by map size since the last report."""

    def __init__(self, codes: int) -> None:
        self.codes = codes
        self.ids: dict[Shape, list[Tensor]] = {}

    def add(self, shapes: Sequence[Shape], ids: Sequence[Tensor]) -> None:
        for shape, item in zip(shapes, ids, strict=True):
            self.ids.setdefault((shape[0], shape[1]), []).append(item.flatten())

    def report(self) -> dict[str, dict[str, float]]:
        """By size "HxW": share of codes used, perplexity, and the number of ids these are of. Empties the
        window."""
        found = {}
        for (h, w), items in sorted(self.ids.items()):
            ids = torch.cat(items)
            used, perplexity = usage(ids, self.codes)
            found[f"{h}x{w}"] = {"usage": used, "perplexity": perplexity, "ids": len(ids)}
        self.ids = {}
        return found


@torch.no_grad()
def usage_by_scale(
    tokenizer: TrainableTokenizer, batches: Iterable[Tensor], shapes: Sequence[Shape]
) -> dict[str, dict[str, float]]:
    """Usage and perplexity by map size over held-out images, in the form of `Window.report`."""
    window = Window(tokenizer.codes)
    for images in batches:
        window.add(shapes, tokenizer.encode(images, shapes))
    return window.report()
