"""Connectors in two halves, the rows of a context, and the losses of latents."""

import pytest
import torch
from torch import nn

from unified.heads.latents import (
    LATENT_LOSSES,
    Connector,
    Latents,
    latent_loss,
    local_rows,
    prefix_rows,
)


def test_a_connector_groups_vectors_in_a_row():
    connector = Connector(lambda x: 2 * x, lambda x: x.sum(dim=-1, keepdim=True), merge=2)
    found = connector(torch.arange(8.0).view(1, 4, 2))
    assert torch.equal(found.vision, torch.arange(0.0, 16.0, 2).view(1, 4, 2))
    assert torch.equal(found.embeds, torch.tensor([[[12.0], [44.0]]]))


def test_the_prefix_is_padded_on_the_left():
    embeds = torch.arange(8.0).view(2, 4, 1) + 1
    mask = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1]])
    rows, real = prefix_rows(embeds, mask)
    assert rows[..., 0].tolist() == [[1, 3], [0, 8]]
    assert real.tolist() == [[True, True], [False, True]]
    rows, real = prefix_rows(embeds, torch.zeros(2, 4))
    assert rows.shape == (2, 0, 1)


def test_local_rows_are_those_before_the_latents():
    hidden = torch.arange(10.0).view(2, 5, 1)
    mask = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 1, 1]])
    assert local_rows(hidden, mask)[..., 0].tolist() == [[0, 1], [7, 8]]
    for wrong in ([[1, 1, 0, 0, 0], [0, 1, 1, 0, 0]], [[0, 1, 0, 0, 0], [0, 1, 1, 0, 0]]):
        with pytest.raises(ValueError, match="every row needs one image"):
            local_rows(hidden, torch.tensor(wrong))


@pytest.mark.parametrize("kind", LATENT_LOSSES)
@pytest.mark.parametrize("both", [False, True])
@torch.no_grad()
def test_losses_vanish_at_the_target_alone(kind, both):
    torch.manual_seed(0)
    connector = Connector(nn.Identity(), nn.Linear(12, 5), merge=2, embeds_too=both)
    target, other = torch.randn(2, 2, 4, 6).unbind()
    exact = Latents(target, connector.embeds(target))
    assert float(latent_loss(connector, exact, target, kind)) == pytest.approx(0, abs=1e-6)
    found = latent_loss(connector, Latents(other, connector.embeds(other)), target, kind)
    assert found > 0.1
    single = LATENT_LOSSES[kind](other, target)
    assert bool(found > single) == both


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="choose one of l1, mse, cosine"):
        latent_loss(Connector(nn.Identity(), nn.Identity()), None, None, "l3")
