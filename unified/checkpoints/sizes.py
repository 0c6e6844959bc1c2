"""`python -m unified.checkpoints sizes`: parameters and memory of the released transformers and tokenizers.

Counted on modules without memory, from the released options alone. Beside the weights an image with guidance
holds keys and values of two rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from unified.checkpoints import infinity_tokenizer, llamagen_tokenizer
from unified.checkpoints.flexvar import FlexVAR
from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_config import released as infinity
from unified.checkpoints.infinity_schedules import schedule
from unified.checkpoints.llamagen import released as llamagen
from unified.checkpoints.nar import NARTransformer
from unified.checkpoints.published import SCALES_256, SCALES_512, released
from unified.checkpoints.var import VAR
from unified.orders.shapes import area
from unified.tokenizers.vq import VQTokenizer

GIB = 2**30


@dataclass(frozen=True)
class Sizes:
    """`parameters` of a released module; `cached`: numbers in the keys and values of one image with guidance
    (0 for tokenizers)."""

    name: str
    parameters: int
    cached: int = 0


def _cached(layers: int, width: int, slots: int) -> int:
    return 2 * 2 * layers * width * slots


def _by_class(kind: type[VAR | FlexVAR], depth: int, pixels: int, codes: int) -> Sizes:
    model = kind(released(depth, pixels=pixels, codes=codes))
    slots = sum(side**2 for side in (SCALES_256 if pixels == 256 else SCALES_512))
    name = f"{kind.__name__} d{depth}, {pixels} pixels"
    return Sizes(name, _count(model), _cached(depth, 64 * depth, slots))


def _infinity(name: str) -> Sizes:
    config = infinity(name)
    slots = area(schedule(1.0, "1M"))
    cached = _cached(config.depth, config.width, slots)
    return Sizes(f"Infinity {name}, 1024 pixels", _count(Infinity(config)), cached)


def _llamagen(name: str, side: int, captions: bool) -> Sizes:
    config = llamagen(name, side=side, captions=captions)
    told = "captions" if captions else "classes"
    slots = side**2 + config.condition_length
    cached = _cached(config.depth, config.width, slots)
    return Sizes(f"LlamaGen {name}, {told}, {16 * side} pixels", _count(NARTransformer(config)), cached)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


ROWS: tuple[Callable[[], Sizes], ...] = (
    *(lambda depth=depth: _by_class(VAR, depth, 256, 4096) for depth in (16, 20, 24, 30)),
    lambda: _by_class(VAR, 36, 512, 4096),
    *(lambda depth=depth: _by_class(FlexVAR, depth, 256, 8912) for depth in (16, 20, 24)),
    *(lambda name=name: _infinity(name) for name in ("2b", "8b")),
    *(lambda name=name: _llamagen(name, 16, False) for name in ("B", "L")),
    *(lambda name=name: _llamagen(name, 24, False) for name in ("XL", "XXL", "3B")),
    lambda: _llamagen("XL", 16, True),
    *(
        lambda bits=bits: Sizes(
            f"Infinity's tokenizer, {bits} bits",
            _count(infinity_tokenizer.InfinityTokenizer(infinity_tokenizer.released(bits))),
        )
        for bits in (32, 14)
    ),
    *(
        lambda name=name: Sizes(
            f"LlamaGen's tokenizer {name}", _count(VQTokenizer(llamagen_tokenizer.released(name)))
        )
        for name in llamagen_tokenizer.RELEASED
    ),
)


def sizes() -> Iterator[Sizes]:
    """Of everything in `ROWS`; nothing takes memory."""
    for row in ROWS:
        with torch.device("meta"):
            yield row()


def lines() -> Iterator[str]:
    """A table in Markdown."""
    yield "| released | parameters | float32 | bfloat16 | keys and values of an image, bfloat16 |"
    yield "|---|---|---|---|---|"
    for row in sizes():
        memory = [f"{row.parameters * size / GIB:.2f} GiB" for size in (4, 2)]
        cached = f"{row.cached * 2 / GIB:.2f} GiB" if row.cached else ""
        yield f"| {row.name} | {row.parameters / 1e6:,.0f}M | {' | '.join(memory)} | {cached} |"
