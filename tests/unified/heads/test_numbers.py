"""Numbers by value: the loss is the squared error, features tell values apart, a head learns them."""

import pytest
import torch

from unified.heads.numbers import NumberHead, waves


def test_the_loss_is_the_squared_error_and_up_to_a_constant_the_likelihood():
    torch.manual_seed(0)
    head, hidden, values = NumberHead(8, 2), torch.randn(5, 8), torch.randn(5, 2)
    found, law = head.loss(hidden, values), head.distribution(hidden)
    torch.testing.assert_close(found, (values - law.mean).square().mean(dim=-1))
    constant = -law.log_prob(values) - found  # two channels: half of the sum of squares is their mean
    torch.testing.assert_close(constant, constant[:1].expand(5))


def test_features_tell_values_apart_and_have_one_norm():
    values = torch.linspace(-1, 1, 201)
    found = waves(values)
    norms = found.norm(dim=-1)
    torch.testing.assert_close(norms, norms[:1].expand(201))
    apart = torch.cdist(found, found) + 9 * torch.eye(201)
    assert float(apart.min()) > 0.1


def test_a_head_learns_values():
    torch.manual_seed(0)
    head, hidden = NumberHead(16), torch.randn(64, 16)
    values = hidden[:, :1].tanh()
    optimiser = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(150):
        loss = head.loss(hidden, values).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss) < 0.01


def test_a_deviation_of_nothing_is_refused():
    with pytest.raises(ValueError, match="std must be positive"):
        NumberHead(8, std=0.0)
