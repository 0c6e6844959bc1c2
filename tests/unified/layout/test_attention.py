"""Ways to attend in a session give what scaled dot-product attention gives."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from unified.layout.attention import attend_all, attend_grouped


def tensors(rows, heads, groups, count, length, dtype):
    generator = torch.Generator().manual_seed(0)
    shapes = ((rows, heads, count, 16), (rows, groups, length, 16), (rows, groups, length, 16))
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def mask_of(rows, count, length):
    mask = torch.rand(rows, 1, count, length, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("masked", [0, 1, 3])
@torch.no_grad()
def test_heads_that_share_keys(dtype, count, masked):
    query, key, value = tensors(3, 6, 2, count, 50, dtype)
    mask = mask_of(masked, count, 50) if masked else None
    found, _ = attend_grouped(None, query, key, value, None, 0.25, mask)
    repeated = [x.float().repeat_interleave(3, dim=1) for x in (key, value)]
    expected = scaled_dot_product_attention(query.float(), *repeated, attn_mask=mask, scale=0.25)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found.float(), expected.transpose(1, 2), atol=tolerance, rtol=tolerance)


def test_gradients_pass():
    query, key, value = tensors(1, 2, 2, 40, 50, torch.bfloat16)
    query.requires_grad_()
    attend_all(query, key, value, None, 0.25).sum().backward()
    assert query.grad is not None
