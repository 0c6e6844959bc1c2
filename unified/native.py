"""What the processor multiplies natively."""

from __future__ import annotations

import torch


def fast_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 are at least as fast as those of float32 there: on GPUs, and on CPUs with
    instructions for them (AVX-512 BF16, AMX). On others they are emulated, some twenty times slower."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # PyTorch has no public names for these
    return device.type != "cpu" or any(getattr(torch.cpu, name, lambda: False)() for name in names)
