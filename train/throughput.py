"""Tokens per second, and the share of the device's peak that the model's arithmetic uses (MFU)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unified.layout.attention import PADDING
from unified.layout.layout import IGNORED, Layout
from unified.precision import fast_bf16

# Dense bf16 peaks in FLOP/s, from the makers' data sheets.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}


def peak_flops(device: torch.device, *, bf16: bool) -> float:
    """Peak of a known GPU; of anything else what a large matrix product reaches in the type that training
    takes there, measured for a fraction of a second."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    known = next((peak for part, peak in PEAKS.items() if part in name), None)
    if known is not None:
        return known if bf16 else known / 2
    return measured_peak(device, torch.bfloat16 if bf16 and fast_bf16(device) else torch.float32)


def measured_peak(device: torch.device, dtype: torch.dtype, side: int = 1024, repeats: int = 6) -> float:
    """The best of some matrix products, in FLOP/s."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        (a @ b)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


@dataclass(frozen=True)
class Work:
    """What decides the arithmetic of a batch: its positions, the sum of the squares of its samples' lengths,
    and its targets, codes and others. Counted where batches are made: a GPU would have to be waited for."""

    positions: int
    squares: int
    codes: int
    words: int

    @staticmethod
    def of(layout: Layout, labels: Tensor) -> Work:
        """Of rows of one layout with these labels [B, T]."""
        lengths = sample_lengths(layout.merged()[0].sample)
        targets = labels != IGNORED
        codes = int((targets & (layout.step >= 0)).sum())
        return Work(int(lengths.sum()), int((lengths**2).sum()), codes, int(targets.sum()) - codes)


class ModelFlops:
    """Arithmetic that a batch asks of a model, forward and backward: 6 per weight of a matrix and position,
    and 12 * layers * width * length for attention over a sample (arXiv 2204.02311, appendix B). Heads count
    where something is predicted, tables that are looked up do not."""

    def __init__(self, model: Any) -> None:
        config = model.config.backbone_config().get_text_config()
        self.attention = 12 * config.num_hidden_layers * config.hidden_size
        self.text, self.code = _weights(model.text_head), _weights(model.head)
        self.body = _weights(model) - self.text - self.code

    def __call__(self, work: Work) -> float:
        """Floating-point operations."""
        heads = self.code * work.codes + self.text * work.words
        return 6 * (self.body * work.positions + heads) + self.attention * work.squares


def sample_lengths(sample: Tensor) -> Tensor:
    """Positions of each sample in rows [B, P], padding left out."""
    rows = torch.arange(len(sample), device=sample.device)[:, None].expand_as(sample)
    real = sample != PADDING
    pairs = torch.stack([rows[real], sample[real]])
    return torch.unique(pairs, dim=1, return_counts=True)[1]


def _weights(module: nn.Module) -> int:
    return sum(_size(part.weight) for part in module.modules() if isinstance(part, nn.Linear))


def _size(parameter: Tensor) -> int:
    return getattr(parameter, "ds_numel", None) or parameter.numel()
