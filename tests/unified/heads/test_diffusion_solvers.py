"""Few-step solvers: the exact answer where it is known, steps as published, and the order of convergence."""

import math

import pytest
import torch

from unified.heads.diffusion_solvers import (
    ddim,
    dpm_solver,
    evenly,
    leading,
    linear_kept,
    trailing,
    value_and_noise,
)

KEPT = linear_kept()


def of_gaussian(mean, deviation):
    """The noise that an ideal network predicts for values from a normal distribution."""

    def predict(x, step):
        a = float(KEPT[step])
        variance = a * deviation**2 + 1 - a
        return math.sqrt(1 - a) * (x - math.sqrt(a) * mean) / variance

    return predict


@pytest.mark.parametrize("steps", [leading(KEPT, 7), evenly(KEPT, 7), trailing(KEPT, 8)])
def test_a_single_value_is_found_in_any_number_of_steps(steps):
    for solve in (ddim, dpm_solver):
        found = solve(of_gaussian(0.7, 0.0), torch.randn(5, 3), steps)
        torch.testing.assert_close(found, torch.full((5, 3), 0.7, dtype=torch.float64))


def test_the_second_order_solver_is_nearer_with_as_few_steps():
    start = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    predict = of_gaussian(1.0, 0.5)
    exact = ddim(predict, start, evenly(KEPT, 500))
    errors = {s: (s(predict, start, evenly(KEPT, 20)) - exact).abs().mean() for s in (ddim, dpm_solver)}
    assert errors[dpm_solver] < 0.5 * errors[ddim]


def test_predictions_of_noise_and_of_velocity_are_the_same_process():
    start, steps, predict = torch.randn(4, 2), leading(KEPT, 6), of_gaussian(0.3, 0.8)

    def velocity(x, step):
        a, noise = float(KEPT[step]), predict(x, step)
        return (noise - math.sqrt(1 - a) * x) / math.sqrt(a)

    by_velocity = ddim(velocity, start, steps, velocity=True)
    torch.testing.assert_close(by_velocity, ddim(predict, start, steps))
    x, a = torch.randn(3).double(), 0.4
    value, noise = value_and_noise(x, torch.ones(3).double(), a)
    torch.testing.assert_close(math.sqrt(a) * value + math.sqrt(1 - a) * noise, x)


def test_values_are_clipped():
    found = ddim(of_gaussian(3.0, 0.0), torch.zeros(2), leading(KEPT, 5), clip=1.0)
    assert torch.equal(found, torch.ones(2, dtype=torch.float64))


def test_the_numbers_of_steps_are_as_published():
    assert [step.number for step in leading(KEPT, 5)] == [800, 600, 400, 200, 0]
    assert [step.number for step in trailing(KEPT, 5)] == [999, 799, 599, 399, 199]
    assert [step.number for step in evenly(KEPT, 5)] == [999, 799, 599, 400, 200]
    assert {steps(KEPT, 4)[-1].after for steps in (leading, evenly)} == {1.0}
    with pytest.raises(ValueError, match="no 2000 to keep"):
        evenly(KEPT, 2000)
