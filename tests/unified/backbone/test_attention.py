"""Ways to attend in a session give what scaled dot-product attention gives, under masks no larger than
needed."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from unified.backbone.attention import attend_all, of_session, sdpa
from unified.layout.attention import Index, Seen, attends, visible


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
    found = sdpa(query, key, value, Seen(mask), 0.25)
    repeated = [x.float().repeat_interleave(3, dim=1) for x in (key, value)]
    expected = scaled_dot_product_attention(query.float(), *repeated, attn_mask=mask, scale=0.25)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found.float(), expected.transpose(1, 2), atol=tolerance, rtol=tolerance)


def test_gradients_pass():
    query, key, value = tensors(1, 2, 2, 40, 50, torch.bfloat16)
    query.requires_grad_()
    attend_all(query, key, value, None, 0.25).sum().backward()
    assert query.grad is not None


def test_flash_attention_that_is_not_installed_is_refused_in_one_line():
    pytest.importorskip("torch")
    try:
        import flash_attn  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match=r'attention "flash" needs the package flash-attn: pip install'):
            of_session("flash")
    else:
        pytest.skip("flash-attn is installed here")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="flash-attention needs a GPU")
def test_flash_attention_is_sdpa():
    pytest.importorskip("flash_attn")
    query, key, value = (x.cuda() for x in tensors(3, 6, 2, 4, 50, torch.bfloat16))
    lengths = torch.tensor([50, 20, 7], dtype=torch.int32, device="cuda")
    seen = Seen((torch.arange(50, device="cuda") < lengths[:, None])[:, None, None], lengths)
    found = of_session("flash")(query, key, value, seen, 0.25)
    torch.testing.assert_close(found, sdpa(query, key, value, seen, 0.25), atol=2e-2, rtol=2e-2)


def index(sample, label, kind=0, segment=0):
    sample, label = torch.tensor(sample), torch.tensor(label)
    zero = torch.zeros_like(label)
    return Index(sample, zero + segment, zero + kind, label)


def test_one_step_of_rows_of_unequal_lengths_needs_a_mask_of_rows_and_keys():
    key = index([[0, 0, 0, 0], [0, 0, 0, -1]], [[0, 1, 2, 2], [0, 1, 1, 0]])
    query = index([[0, 0], [0, 0]], [[2, 2], [1, 1]])
    mask = visible(query, key)
    assert mask.shape == (2, 1, 1, 4)
    assert mask[:, 0, 0].tolist() == [[True] * 4, [True, True, True, False]]
    assert torch.equal(mask.expand(-1, -1, 2, -1)[:, 0], attends(query, key))


def test_one_step_of_equal_rows_needs_no_mask_and_text_the_rule():
    key = index([[0, 0, 0]], [[0, 1, 2]])
    assert visible(index([[0, 0]], [[2, 2]]), key) is None
    assert visible(index([[0, 0]], [[1, 2]]), key).tolist() == [[[[True, True, False], [True] * 3]]]


def test_queries_that_are_padding_see_something():
    key = index([[0, 0, 0], [0, 0, -1]], [[0, 1, 2], [0, 1, 0]])
    mask = visible(index([[0, 0], [0, -1]], [[1, 2], [1, 0]]), key)
    assert mask.any(dim=-1).all()
