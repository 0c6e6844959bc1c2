"""What `python -m unified.eval.bench.gpu` measures: a function for each group, from sizes to rates.

Weights and data are random: time does not depend on them. A rate is that of the fastest of some repeats,
after one that warms up (FlexAttention compiles its kernels then).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from unified.eval.bench import mineworld
from unified.train.synthetic import SyntheticRows
from unified.train.throughput import ModelFlops, peak_flops

from unified.config import UnifiedConfig, text_decoder
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.model import UnifiedModel

Rates = dict[str, float]
SAMPLER = Sampler(top_k=900, top_p=0.95)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of the model (`decoder`: of `text_decoder`), and how much is done: `packed` rows of so many ids in a
    batch; `batches` of sessions; `tokens` of text; `sides` of an image's maps; the `grid` of a frame (224 x
    384 pixels at stride 16); how often each is repeated."""

    decoder: dict[str, int] = field(
        default_factory=lambda: {"width": 1024, "layers": 24, "heads": 16, "kv_heads": 8}
    )
    codes: int = 8192
    packed: tuple[int, int] = (4, 4096)
    batches: tuple[int, ...] = (1, 16)
    tokens: int = 128
    sides: tuple[int, ...] = (1, 2, 4, 8, 16)
    grid: tuple[int, int] = (14, 24)
    repeats: int = 3


TOY = Size(
    decoder={"width": 32, "layers": 1, "heads": 2, "kv_heads": 1},
    codes=32,
    packed=(2, 256),
    batches=(1, 2),
    tokens=2,
    sides=(1, 2, 4),
    grid=(2, 3),
    repeats=1,
)


def session_backends(device: torch.device) -> list[str]:
    """The attention of sessions that can run here."""
    flash = device.type == "cuda" and find_spec("flash_attn") is not None
    return ["sdpa", "flash_attention_2"] if flash else ["sdpa"]


def batch_backends(device: torch.device) -> list[str]:
    """That of whole batches; on a processor nothing is compiled."""
    return ["sdpa", "flex_attention" if device.type == "cuda" else "by_sample"]


# What is measured -------------------------------------------------------------------------------------------


def sessions(size: Size, device: torch.device) -> Iterator[tuple[str, Rates]]:
    """Text token by token, and images with guidance, by each attention of sessions."""
    model = _model(size, device)
    for backend in session_backends(device):
        model.set_attn_implementation(backend)
        for rows in size.batches:
            seconds = _fastest(partial(_text, model, size, rows), size, device)
            yield f"text, {backend} x{rows}", {"tokens_per_second": rows * size.tokens / seconds}
            seconds = _fastest(partial(_image, model, size, rows), size, device)
            yield f"image, {backend} x{rows}", {"images_per_second": rows / seconds}


def passes(size: Size, device: torch.device) -> Iterator[tuple[str, Rates]]:
    """The likelihood of a packed batch in one pass, by each attention of whole batches."""
    model, batch = _model(size, device), _batch(size, device)
    for backend in batch_backends(device):
        model.set_attn_implementation(backend)
        seconds = _fastest(partial(_likelihood, model, batch), size, device)
        yield f"pass, {backend}", {"tokens_per_second": math.prod(size.packed) / seconds}


def training(size: Size, device: torch.device) -> Iterator[tuple[str, Rates]]:
    """A step of AdamW on a packed batch, products in bfloat16; `utilisation`: the model's arithmetic over the
    device's peak (`train.throughput`)."""
    for backend in batch_backends(device):
        model = _model(size, device, torch.float32).train()
        model.set_attn_implementation(backend)
        batch = _batch(size, device)
        flops = ModelFlops(model)(batch["work"])
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device.type == "cuda")
        seconds = _fastest(partial(_step, model, optimiser, batch, device), size, device)
        rates = {"tokens_per_second": math.prod(size.packed) / seconds}
        yield (
            f"training, {backend}",
            {**rates, "utilisation": flops / seconds / peak_flops(device, bf16=True)},
        )


def world(size: Size, device: torch.device) -> Iterator[tuple[str, Rates]]:
    """Frames after actions, next-scale and diagonal, with 7 frames in the cache (`bench.mineworld`)."""
    decoder = size.decoder
    inner = text_decoder(**decoder)["intermediate_size"]
    sizes = mineworld.Size(
        layers=decoder["layers"],
        width=decoder["width"],
        heads=decoder["heads"],
        kv_heads=decoder["kv_heads"],
        inner=inner,
        grid=size.grid,
        codes=size.codes,
    )
    torch.manual_seed(0)
    model: Any = mineworld.own(sizes)
    first = mineworld.prepared(model.to(device, _half(device)), sizes)
    for order in ("next_scale", mineworld.DIAGONAL):
        for rows in size.batches:
            seconds = _fastest(partial(_frame, first, rows, order, size.grid), size, device)
            yield f"world, {order} x{rows}", {"frames_per_second": rows / seconds}


GROUPS: dict[str, Callable[[Size, torch.device], Iterator[tuple[str, Rates]]]] = {
    "sessions": sessions,
    "passes": passes,
    "training": training,
    "world": world,
}


# Parts ------------------------------------------------------------------------------------------------------


def _half(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _model(size: Size, device: torch.device, dtype: torch.dtype | None = None) -> UnifiedModel:
    torch.manual_seed(0)
    words = {"visual": size.codes, "max_side": size.sides[-1]}
    config = UnifiedConfig(vocabulary=words, backbone=text_decoder(**size.decoder))
    model: Any = UnifiedModel(config).eval()
    return model.to(device, dtype or _half(device))  # type: ignore[no-any-return]


def _prompt(model: UnifiedModel) -> list[int]:
    words = model.vocabulary
    return [words.begin, words.user, *range(20), words.end, words.assistant]


def _text(model: UnifiedModel, size: Size, rows: int) -> None:
    session = Session(model, rows=rows)
    session.feed(_prompt(model))
    list(session.text(sampler=SAMPLER, max_tokens=size.tokens, draw=False, end=False))


def _image(model: UnifiedModel, size: Size, rows: int) -> None:
    session = Session(model, rows=rows)
    session.feed(_prompt(model))
    session.draw(size.sides, sampler=SAMPLER, guidance=Constant(1.5))


def _frame(first: Session, rows: int, order: str, grid: tuple[int, int]) -> None:
    mineworld.frame(mineworld.copies(first, rows), order, grid)


def _batch(size: Size, device: torch.device) -> dict[str, Any]:
    """Rows packed with samples that draw an image each."""
    words = UnifiedConfig(vocabulary={"visual": size.codes, "max_side": size.sides[-1]}).words
    rows, length = size.packed
    data = SyntheticRows(words, size.sides[:-1], length, rows)
    batch = data.collator(everywhere=False)([data[number] for number in range(rows)])
    moved = {name: batch[name].to(device) for name in ("input_ids", "labels", "layout")}
    return {**moved, "work": batch["work"]}


def _likelihood(model: UnifiedModel, batch: dict[str, Any], grad: bool = False) -> Any:
    with nullcontext() if grad else torch.no_grad():
        return model(batch["input_ids"], batch["labels"], batch["layout"], return_logits=False)


def _step(
    model: UnifiedModel, optimiser: torch.optim.Optimizer, batch: dict[str, Any], device: torch.device
) -> None:
    with torch.autocast(device.type, torch.bfloat16):
        loss = _likelihood(model, batch, grad=True).loss
    loss.backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def _fastest(work: Callable[[], Any], size: Size, device: torch.device) -> float:
    """Seconds of the fastest of the repeats, after one that warms up."""

    def timed() -> float:
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        return time.perf_counter() - start

    timed()
    return min(timed() for _ in range(size.repeats))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
