"""Flow matching: solvers against solutions that are known, and a head that learns two modes."""

from dataclasses import replace

import pytest
import torch

from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.heads.flow import SCALE, SOLVERS, FlowConfig, FlowHead
from unified.heads.flow_matching import euler, euler_maruyama, euler_times, noised, stochastic_times


def test_euler_follows_a_straight_path_to_its_value():
    value, noise = torch.randn(2, 3), torch.randn(2, 3)
    for steps in (1, 4):
        found = euler(lambda x, t: noise - value, noise, euler_times(steps))
        torch.testing.assert_close(found, value.double())


def test_the_stochastic_solver_keeps_the_distribution():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4000, 1, generator=generator)
    times = stochastic_times(60)
    noises = [torch.randn(4000, 1, generator=generator) for _ in times[1:]]

    def velocity(x, time):  # of values from a normal distribution of mean 2 and deviation 0.5
        variance = (1 - time) ** 2 * 0.25 + time**2
        residual = (x - (1 - time) * 2) / variance
        return time * residual - (2 + (1 - time) * 0.25 * residual)

    found = euler_maruyama(velocity, start, noises, times)
    assert abs(float(found.mean()) - 2) < 0.05
    assert abs(float(found.std()) - 0.5) < 0.05


def test_the_stochastic_solver_needs_a_noise_for_every_step_but_the_last():
    with pytest.raises(ValueError, match="need 2 noises, got 3"):
        euler_maruyama(lambda x, t: x, torch.zeros(1), [torch.zeros(1)] * 3, stochastic_times(3))


def test_the_loss_is_the_squared_error_of_the_velocity():
    torch.manual_seed(0)
    head = FlowHead(8, 2, FlowConfig(inner=16, depth=1, repeats=1))
    torch.nn.init.normal_(head.denoiser.outputs.weight)
    hidden, values = torch.randn(3, 8), torch.randn(3, 2)
    loss = head.loss(hidden, values, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    times, noise = torch.rand(1, 3, 1, generator=generator)[0], torch.randn(1, 3, 2, generator=generator)[0]
    found = head.denoiser(noised(values, noise, times), SCALE * times[:, 0], hidden)
    torch.testing.assert_close(loss, (found - (noise - values)).square().mean(dim=1))


def test_two_modes_are_learned():
    torch.manual_seed(0)
    generator, hidden = torch.Generator().manual_seed(0), torch.randn(2, 8)
    head = FlowHead(8, 1, FlowConfig(inner=48, depth=2, repeats=2))
    centres = torch.tensor([[-1.0, 1.0], [2.0, 2.0]])
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(120):
        states = torch.randint(2, (64,), generator=generator)
        values = centres[states, torch.randint(2, (64,), generator=generator)][:, None]
        optimizer.zero_grad()
        head.loss(hidden[states], values, generator).mean().backward()
        optimizer.step()
    places, states = torch.arange(200).expand(2, -1), hidden[:, None].expand(-1, 200, -1)
    for solver in SOLVERS:
        head.config = replace(head.config, solver=solver)
        with torch.no_grad():
            found = head.distribution(states).sample(PositionNoise([1, 2]), places, Sampler()).values[..., 0]
        assert (found[1] - 2).abs().mean() < 0.4
        assert (found[0].abs() - 1).abs().mean() < 0.4
        assert 0.2 < float((found[0] > 0).float().mean()) < 0.8


def test_guidance_with_weight_zero_is_the_branch_itself():
    torch.manual_seed(0)
    head = FlowHead(8, 2).requires_grad_(False)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    own, null = head.distribution(torch.randn(1, 3, 8)), head.distribution(torch.randn(1, 3, 8))
    x = torch.randn(1, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(own.guided(null, 0.0).velocity(x, 0.5), own.velocity(x, 0.5))
    wanted = null.velocity(x, 0.5) + 3 * (own.velocity(x, 0.5) - null.velocity(x, 0.5))
    torch.testing.assert_close(own.guided(null, 2.0).velocity(x, 0.5), wanted, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(own.combined([own]).velocity(x, 0.5), own.velocity(x, 0.5))
    assert not torch.allclose(own.velocity(x, 0.5), null.velocity(x, 0.5))


@pytest.mark.parametrize(
    ("options", "words"), [({"steps": 0}, "at least 1"), ({"solver": "heun"}, "euler_maruyama")]
)
def test_bad_settings_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        FlowConfig(**options)


def test_likelihoods_are_refused():
    with pytest.raises(ValueError, match="no exact log-probability"):
        FlowHead(8, 2).distribution(torch.randn(1, 3, 8)).log_prob(torch.randn(1, 3, 2))
