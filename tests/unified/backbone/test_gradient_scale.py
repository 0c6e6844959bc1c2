"""Values pass unchanged, gradients are scaled."""

import pytest
import torch

from unified.backbone.gradient_scale import scaled_gradient


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0])
def test_values_stay_and_gradients_are_scaled(scale):
    x = torch.randn(3, 4, requires_grad=True)
    found = scaled_gradient(x, scale)
    assert torch.equal(found, x)
    gradient = torch.autograd.grad(found.square().sum(), x)[0]
    torch.testing.assert_close(gradient, scale * 2 * x.detach())
