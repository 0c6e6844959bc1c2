"""A codebook made by a bridge: sizes other than the reference's, gradients of unused codes, learning
rates."""

import pytest
import torch
from torch import nn

from unified.checkpoints.fvq.network import (
    Bridge,
    BridgeConfig,
    ModulatedBridge,
    annealed,
    entries,
    from_patches,
    initialise,
    quantise,
    to_grid,
)


@pytest.mark.parametrize(("side", "patch", "dim"), [(6, 3, 2), (4, 1, 5), (8, 4, 3)])
def test_patches_and_grid_are_inverse_and_sizes_are_free(side, patch, dim):
    config = BridgeConfig(codes=side**2, dim=dim, patch=patch, head_width=4)
    table = torch.randn(side**2, dim)
    grid = to_grid(table)
    assert grid[0, :, 1, 2].equal(table[side + 2])
    across = side // patch
    cells = grid[0].view(dim, across, patch, across, patch).permute(1, 3, 2, 4, 0)
    assert from_patches(cells.reshape(1, across**2, -1), config).equal(grid)
    assert Bridge(config)(table).shape == ModulatedBridge(config)(table).shape == table.shape


def test_a_gradient_to_one_code_moves_all_of_them():
    torch.manual_seed(0)
    config = BridgeConfig(codes=16, dim=4, patch=2, head_width=4)
    table, bridge = torch.randn(16, 4, requires_grad=True), Bridge(config)
    bridge(table)[3].square().sum().backward()
    assert (table.grad.abs().sum(dim=1) > 0).all()


def test_codes_are_all_zero_at_the_start_and_spread_one_cell_a_patch():
    torch.manual_seed(0)
    config = BridgeConfig(codes=16, dim=4, patch=2, head_width=4)
    table, bridge = nn.Embedding(16, 4), Bridge(config)
    initialise(table, bridge)
    codebook = bridge(table.weight)
    assert codebook.eq(0).all()
    found = quantise(torch.randn(1, 4, 3, 3), codebook, 0.25)
    assert found.ids.eq(0).all()
    found.vq_loss.backward()
    assert table.weight.grad.eq(0).all()
    torch.optim.Adam(bridge.parameters(), lr=1e-2).step()
    moved = bridge(table.weight).abs().sum(dim=1) > 0
    assert moved.view(4, 4).nonzero().tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]


def test_the_modulated_bridge_begins_as_the_identity_of_its_tokens():
    """With modulations of zero gates are closed, so blocks change nothing."""
    config = BridgeConfig(codes=16, dim=4, patch=2, head_width=4)
    bridge, table = ModulatedBridge(config), torch.randn(16, 4)
    for name, value in bridge.named_parameters():
        if "adaLN" in name:
            nn.init.zeros_(value)
    expected = bridge(table)
    bridge.blocks = nn.ModuleList()
    assert bridge(table).equal(expected)


def test_quantised_vectors_are_the_nearest_and_pass_gradients_straight():
    codebook = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    z = torch.tensor([[[[0.4, 0.8]], [[0.0, 0.0]]]], requires_grad=True)  # [1, 2, 1, 2]
    found = quantise(z, codebook, 0.5)
    assert found.ids.tolist() == [[0, 1]]
    assert found.output.detach().allclose(entries(found.ids, codebook, (1, 2)))
    assert found.commit_loss.item() == pytest.approx(0.5 * (0.16 + 0.04) / 4)
    (found.output * torch.arange(4.0).view(1, 2, 1, 2)).sum().backward()
    assert z.grad.flatten().tolist() == [0, 1, 2, 3]


def test_learning_rates_rise_hold_and_fall():
    rates = {
        form: [annealed(step, 21, 5, form=form) for step in range(21)] for form in ("lin", "cos", "const")
    }
    for form in rates:
        assert rates[form][0] == 0.005
        assert rates[form][:5] == sorted(rates[form][:5])
        assert rates[form][5:9] == [1] * 4
    assert rates["const"][-1] == 1
    assert rates["lin"][-1] == rates["cos"][-1] == pytest.approx(0.01)
    with pytest.raises(ValueError, match="unknown form 'exp'"):
        annealed(0, 2, 1, form="exp")


def test_tables_that_are_no_square_are_refused():
    with pytest.raises(ValueError, match="square number of codes whose root 4 divides, got 30"):
        BridgeConfig(codes=30)
