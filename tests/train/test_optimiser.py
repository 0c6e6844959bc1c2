"""Muon beside AdamW as one optimiser: who steps what, that it learns, that its state comes back."""

import copy

import pytest
import torch
from torch import nn
from unified.train.optimiser import FlatMuon, check_optimiser, muon


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 16, 4))


def steps(model, optimiser, count, start=0):
    losses = []
    for number in range(start, start + count):
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(16, 3, 4, 4, generator=generator)
        loss = (model(x) - x.mean(dim=(2, 3)).repeat(1, 2)[:, :4]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def build(model, decay=0.0):
    return muon(model.named_parameters(), lambda name: name.startswith("0."), 3e-3, decay)


def test_inner_weights_move_along_orthogonal_directions_and_the_rest_as_adam_says():
    model = network()
    before = copy.deepcopy(model.state_dict())
    steps(model, build(model), 1)
    moved = {name: value - before[name] for name, value in model.state_dict().items()}
    spectrum = torch.linalg.svdvals(moved["0.weight"].flatten(1))
    assert float(spectrum.max() / spectrum.min()) < 3  # five iterations of Newton-Schulz: all near 1
    for name in ("0.bias", "3.weight", "3.bias"):  # the first step of Adam has the size of the rate
        torch.testing.assert_close(moved[name].abs().max(), torch.tensor(3e-3), rtol=0.01, atol=0)


def test_it_learns_and_goes_on_from_a_saved_state():
    model = network()
    optimiser = build(model)
    losses = steps(model, optimiser, 60)
    assert losses[-1] < losses[0] / 2
    other = network()
    other.load_state_dict(model.state_dict())
    again = build(other)
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for one in (optimiser, again):  # what a schedule does: it writes into the groups
        for group in one.param_groups:
            group["lr"] = 1e-3
    assert steps(model, optimiser, 5, 60) == steps(other, again, 5, 60)
    assert len(again.state) == sum(1 for _ in other.parameters())


def test_frozen_weights_stay_and_unknown_names_are_refused():
    model = network()
    model[0].weight.requires_grad = False
    before = model[0].weight.clone()
    steps(model, build(model, decay=0.1), 2)
    assert torch.equal(model[0].weight, before)
    with pytest.raises(ValueError, match="unknown optimiser 'sgd'"):
        check_optimiser("sgd")


def test_matrices_of_one_shape_step_together_as_each_would_alone():
    torch.manual_seed(0)
    shapes = [(6, 4), (4, 6), (6, 4), (5, 5)]
    start = [torch.randn(shape) for shape in shapes]
    ours, theirs = ([nn.Parameter(weight.clone()) for weight in start] for _ in range(2))
    together = FlatMuon(ours, 1e-2, 0.1)
    alone = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        together.step()
        alone.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)  # directions are found in bfloat16
