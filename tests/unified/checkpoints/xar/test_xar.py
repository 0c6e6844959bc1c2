"""xAR on tiny random modules: no leak between units, cached equals uncached, runs independent of the
batch."""

import pytest
import torch

from unified.checkpoints.xar.network import XAR, XARConfig, flow_loss, load, thousandths
from unified.checkpoints.xar.sampling import UnitDecoding, UnitVelocity, sample
from unified.decoding.noise import PositionNoise


def tiny(**sizes):
    torch.manual_seed(0)
    model = XAR(XARConfig(**{"channels": 3, "side": 6, "cell": 3, "width": 16, "heads": 2, **sizes}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


LABELS = torch.tensor([1, 4])


def inputs(model, seed=1):
    generator, units = torch.Generator().manual_seed(seed), model.units
    values = torch.randn(2, units.count, units.size, model.config.channels, generator=generator)
    return values, torch.rand(2, units.count, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("changed", [1, 3])
def test_a_unit_is_not_changed_by_the_noise_and_time_of_later_ones(changed):
    model = tiny()
    values, times = inputs(model)
    times[:, 0] = 0  # a clean unit
    other_values, other_times = values.clone(), times.clone()
    other_values[:, changed:] += 1
    other_times[:, changed:] /= 2
    runs = [
        model(v.flatten(1, 2), model.condition(LABELS, thousandths(t)))
        for v, t in ((values, times), (other_values, other_times))
    ]
    before = changed * model.units.size
    assert torch.equal(runs[0][:, :before], runs[1][:, :before])
    assert not torch.equal(runs[0][:, before:], runs[1][:, before:])


@torch.no_grad()
@pytest.mark.parametrize("sizes", [{}, {"side": 8, "cell": 4, "depth": (2, 1)}, {"side": 4, "cell": 2}])
def test_cached_equals_uncached(sizes):
    model = tiny(**sizes)
    values, _ = inputs(model)
    units, stores = model.units, model.stores()
    for unit in range(units.count):
        before = values[:, unit - 1] if unit else None
        settings = UnitDecoding(steps=3)
        velocity = UnitVelocity(model, LABELS, settings, unit, before, stores)
        cached = [velocity(values[:, unit], 0.6) for _ in range(2)]  # the second call reads the cache alone
        times = torch.zeros(2, units.count)
        times[:, unit] = 0.6
        whole = model(values.flatten(1, 2), model.condition(LABELS, thousandths(times)))
        wanted = whole[:, unit * units.size : (unit + 1) * units.size]
        for found in cached:
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("solver", ["euler_maruyama", "euler"])
def test_a_row_is_the_same_alone_and_in_a_batch(solver):
    model, settings = tiny(), UnitDecoding(steps=2, scale=2.0, solver=solver)
    both = sample(model, LABELS, PositionNoise([3, 4]), settings)
    for row in range(2):
        alone = sample(model, LABELS[row : row + 1], PositionNoise([3 + row]), settings)
        torch.testing.assert_close(alone[0], both[row], rtol=1e-4, atol=1e-4)
    assert not torch.equal(both[0], sample(model, LABELS, PositionNoise([9, 4]), settings)[0])


def test_guidance_ramps_from_one_and_an_empty_interval_is_no_guidance():
    settings = UnitDecoding(scale=2.5)
    assert [settings.scale_of(unit, 4) for unit in range(4)] == [1.0, 1.5, 2.0, 2.5]
    assert settings.scale_of(0, 1) == 1.0
    model, noise = tiny(), PositionNoise([3])
    plain = sample(model, LABELS, noise, UnitDecoding(steps=3))
    outside = sample(model, LABELS, noise, UnitDecoding(steps=3, scale=2.0, interval=(2.0, 3.0)))
    torch.testing.assert_close(outside, plain, rtol=0, atol=1e-4)
    guided = sample(model, LABELS, noise, UnitDecoding(steps=3, scale=2.0))
    assert not torch.allclose(guided, plain, atol=1e-2)


@torch.no_grad()
def test_the_loss_is_the_mean_over_all_tokens():
    model = tiny()
    values, times = inputs(model)
    noise = torch.randn_like(values)
    wanted = 0.0
    for unit in range(model.units.count):
        x = (1 - times[..., None, None]) * values + times[..., None, None] * noise
        velocity = model(x.flatten(1, 2), model.condition(LABELS, thousandths(times)))
        part = slice(unit * model.units.size, (unit + 1) * model.units.size)
        wanted += float((velocity[:, part] - (noise - values)[:, unit]).square().mean())
    assert abs(float(flow_loss(model, values, noise, times, LABELS)) - wanted / model.units.count) < 1e-4


def test_weights_are_loaded_by_their_official_names():
    model = tiny(side=4, cell=2, depth=(2, 1))
    state = {k.replace("adaLN_modulation", "ada_lin"): v for k, v in model.state_dict().items()}
    buffers = {"mask": torch.zeros(1, 1, 16, 16), "encoder_blocks.0.attn.rope.freqs": torch.zeros(3)}
    loaded = load({**state, **buffers}, 2)
    assert loaded.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: XARConfig(width=20, heads=2), "multiple of 4"),
        (lambda: XARConfig(side=6, cell=4), "side 4"),
        (lambda: UnitDecoding(scale=0.5), "at least 1"),
        (lambda: UnitDecoding(solver="heun"), "euler_maruyama"),
    ],
)
def test_bad_settings_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
