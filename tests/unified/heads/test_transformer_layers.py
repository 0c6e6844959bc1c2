"""Shared layers: neutral modulation is the plain block bit by bit, and cached keys give what one pass
gives."""

import pytest
import torch

from unified.heads.transformer_layers import (
    Attention,
    Block,
    BlockParts,
    GatedFeedForward,
    Modulation,
    Seen,
    rms_norm,
    stores_for,
)

PARTS = [BlockParts(), BlockParts(norm=rms_norm, head_norm=rms_norm, feed_forward=GatedFeedForward)]


@pytest.mark.parametrize("parts", PARTS)
@torch.no_grad()
def test_a_neutral_modulation_is_the_plain_block(parts):
    torch.manual_seed(0)
    block, x = Block(12, 3, 20, parts), torch.randn(2, 5, 12)
    zero, one = torch.zeros(1, 1, 12), torch.ones(1, 1, 12)
    assert torch.equal(block(x, Modulation(zero, zero, one, zero, zero, one)), block(x))
    assert not torch.equal(block(x, Modulation(zero, one, one, zero, zero, one)), block(x))


@pytest.mark.parametrize("parts", PARTS)
@torch.no_grad()
def test_cached_equals_one_causal_pass(parts):
    torch.manual_seed(0)
    blocks, x = [Block(12, 3, 20, parts) for _ in range(2)], torch.randn(2, 6, 12)
    whole, mask = x, torch.ones(6, 6).tril().bool()
    for block in blocks:
        whole = block(whole, seen=Seen(mask=mask))
    stores, found = stores_for(2, 6), []
    for start, stop in ((0, 2), (2, 3), (3, 6)):
        part = x[:, start:stop]
        seen = Seen(mask=mask[start:stop, :stop], stores=stores, kept=stop - start)
        for layer, block in enumerate(blocks):
            part = block(part, seen=seen, layer=layer)
        found.append(part)
    torch.testing.assert_close(torch.cat(found, dim=1), whole, rtol=0, atol=1e-6)


@torch.no_grad()
def test_what_is_not_kept_leaves_no_trace():
    torch.manual_seed(0)
    attention, stores = Attention(8, 2), stores_for(1, 4)
    first, last = torch.randn(1, 2, 8), torch.randn(1, 1, 8)
    attention(first, Seen(stores=stores, kept=2))
    once = attention(last, Seen(stores=stores))
    assert torch.equal(attention(last, Seen(stores=stores)), once)
    assert stores[0].count == 2


def test_widths_that_heads_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="not a multiple of 3 heads"):
        Attention(8, 3)
