"""Layers run in bfloat16 where the processor has instructions for it, and in float32 elsewhere."""

import pytest
import torch

from unified.precision import autocast, fast_bf16


@pytest.mark.parametrize("fast", [True, False])
def test_products_are_of_bfloat16_only_where_that_is_fast(monkeypatch, fast):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    layer = torch.nn.Linear(2, 2)
    with autocast("cpu"):
        assert layer(torch.ones(1, 2)).dtype == (torch.bfloat16 if fast else torch.float32)
    with autocast("cpu", enabled=False):
        assert layer(torch.ones(1, 2)).dtype == torch.float32


def test_other_devices_are_taken_to_be_fast():
    assert fast_bf16("cuda")
    assert fast_bf16(torch.device("cuda", 1))
