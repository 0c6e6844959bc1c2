"""Where products of bfloat16 are faster than those of float32.

A processor without instructions for them (AVX-512 BF16, AMX) computes them in plain loops, some ten times
slower than float32: there, what may run in bfloat16 runs in float32.
"""

from __future__ import annotations

import torch


def fast_bf16(device: str | torch.device = "cpu") -> bool:
    """Whether this device has instructions for products of bfloat16; of others than CPUs, true."""
    if torch.device(device).type != "cpu":
        return True
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # PyTorch has no public names for these
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def autocast(device: str | torch.device = "cpu", *, enabled: bool = True) -> torch.autocast:
    """Autocasting to bfloat16 where it is `enabled` and fast."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=enabled and fast_bf16(device))
