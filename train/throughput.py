"""Tokens per second, and the share of the device's peak that the model's arithmetic uses (MFU)."""

from __future__ import annotations

import time

import torch
from torch import nn

# Dense bf16 peaks in FLOP/s, from the makers' data sheets.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}


def peak_flops(device: torch.device, *, bf16: bool) -> float:
    """Peak of a known GPU; of anything else what a large matrix product reaches, measured for a fraction of a
    second."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    known = next((peak for part, peak in PEAKS.items() if part in name), None)
    if known is not None:
        return known if bf16 else known / 2
    return measured_peak(device, torch.bfloat16 if bf16 else torch.float32)


def measured_peak(device: torch.device, dtype: torch.dtype, side: int = 1024, repeats: int = 6) -> float:
    """The best of some matrix products, in FLOP/s."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        (a @ b)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def flops_per_token(model: nn.Module, length: int) -> float:
    """Forward and backward of one token: 6 per weight of a matrix, and 12 * layers * width * length for
    attention over a row (arXiv 2204.02311, appendix B). Tables that are only looked up do not count."""
    config = model.config.backbone_config().get_text_config()  # type: ignore[union-attr, operator]
    weights = sum(_size(m.weight) for m in model.modules() if isinstance(m, nn.Linear))
    return 6 * weights + 12 * config.num_hidden_layers * config.hidden_size * length


def _size(parameter: torch.Tensor) -> int:
    return getattr(parameter, "ds_numel", None) or parameter.numel()
