"""Low-rank changes: nothing at the start, taken off without a trace, the same from their tensors."""

import pytest
import torch
from torch import nn

from unified.low_rank import LowRankConfig, changes_of, tuned

CONFIG = LowRankConfig(rank=2, alpha=3.0, matrices=("k_proj",))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.k_proj, self.other = nn.Linear(4, 6, bias=False), nn.Linear(6, 2)

    def forward(self, x):
        return self.other(self.k_proj(x))


def made():
    torch.manual_seed(0)
    return Two(), torch.randn(3, 4)


def test_only_the_changes_are_trained_and_off_is_the_model_as_it_was():
    model, x = made()
    before, weight = model(x).detach(), model.k_proj.weight
    with tuned(model, CONFIG) as changes:
        assert torch.equal(model(x), before)
        model(x).square().sum().backward()
        assert [p.grad is not None for p in changes.parameters] == [True, True]
        assert not any(p.requires_grad for p in (weight, model.other.weight, model.other.bias))
        torch.nn.init.ones_(changes.parameters[1])
        assert not torch.allclose(model(x), before)
        with changes.off():
            assert torch.equal(model(x), before)
        tuned_output, tensors = model(x).detach(), changes.tensors()
    assert model.k_proj.weight is weight
    assert model.k_proj.weight.requires_grad
    assert torch.equal(model(x), before)
    found = changes_of(tensors, CONFIG.scale)
    assert list(found) == ["k_proj.weight"]
    with torch.no_grad():
        model.k_proj.weight += found["k_proj.weight"]
    assert torch.allclose(model(x), tuned_output, atol=1e-5)


def test_what_does_not_fit_is_refused():
    model, _ = made()
    with (
        pytest.raises(ValueError, match="no matrices called q_proj"),
        tuned(model, LowRankConfig(matrices=("q_proj",))),
    ):
        pass
    first, second = torch.zeros(2, 4), torch.zeros(6, 3)
    with pytest.raises(ValueError, match="lacks one"):
        changes_of({"a.weight.lora_A": first}, 1.0)
    with pytest.raises(ValueError, match=r"do not fit: \(6, 3\) and \(2, 4\)"):
        changes_of({"a.weight.lora_A": first, "a.weight.lora_B": second}, 1.0)
    with pytest.raises(ValueError, match="changes nothing"):
        changes_of({}, 1.0)
    with pytest.raises(ValueError, match="rank"):
        LowRankConfig(rank=0)
