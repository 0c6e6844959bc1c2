"""Noise: the numbers of the plain formula, whatever the batch; purposes are independent."""

import itertools

import numpy as np
import pytest
import torch

from unified.decoding.noise import GeneratorNoise, PositionNoise, fractions, hashed

SEEDS = [0, 3, -1, 2**63 - 1, -(2**63)]
PURPOSES = ["sample", "normal", "accept", "gumbel"]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def mixed(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def plain_uniform(seeds, places, count):
    """The formula in unsigned integers, which every seed's pictures go back to."""
    rows = np.asarray(seeds, dtype=np.int64).astype(np.uint64)[:, None, None]
    keys = mixed(rows * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019))
    keys = mixed(keys + places.numpy().astype(np.uint64)[:, :, None])
    values = mixed(keys + np.arange(count, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03))
    return torch.from_numpy((values >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def some_places(rows, count=40):
    return torch.arange(count).expand(rows, -1) * 131 + torch.arange(rows)[:, None]


def test_uniforms_are_those_of_the_plain_formula():
    places = some_places(len(SEEDS))
    wanted = plain_uniform(SEEDS, places, 33)
    noise = PositionNoise(SEEDS)
    assert torch.equal(noise.uniform(places, 33), wanted)
    bits = hashed(noise._key("sample", places.device), places, torch.arange(33))  # as on other devices
    assert torch.equal(fractions(bits, torch.float64), wanted)
    assert torch.equal(fractions(torch.from_numpy(bits.numpy()), torch.float64), wanted)


@needs_cuda
def test_a_gpu_gives_the_same_numbers_and_is_not_waited_for():
    noise, places, device = PositionNoise(SEEDS), some_places(len(SEEDS)), torch.device("cuda")
    noise.uniform(places, 1, device=device)  # the keys are brought there once
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = noise.uniform(places, 33, device=device)
        noise.draw(torch.full((len(SEEDS), 40, 2, 7), 1 / 7, device=device), places)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), noise.uniform(places, 33))


def test_fractions_of_either_precision_lie_below_one():
    bits = torch.tensor([0, 1, -1, 2**63 - 1, -(2**63), 123456789 << 20])
    double, single = fractions(bits, torch.float64), fractions(bits, torch.float32)
    assert double.dtype == torch.float64
    assert single.dtype == torch.float32
    for values in (double, single):
        assert float(values.min()) == 0
        assert 0.9999 < float(values.max()) < 1
    assert float((double - single).abs().max()) <= 2**-24


@pytest.mark.parametrize("purpose", PURPOSES)
def test_numbers_do_not_depend_on_the_batch(purpose):
    places = some_places(3)
    noise = PositionNoise([9, 3, 4])
    for find in (noise.uniform, noise.normal):
        together = find(places, 5, purpose)
        for row, seed in enumerate([9, 3, 4]):
            alone = getattr(PositionNoise([seed]), find.__name__)
            assert torch.equal(alone(places[row : row + 1], 5, purpose)[0], together[row])
        assert torch.equal(find(places[:, 20:], 5, purpose), together[:, 20:])
        assert torch.equal(find(places, 2, purpose), together[..., :2])
        assert not torch.equal(together[0], together[1])


def test_purposes_are_independent():
    places = torch.arange(5000).expand(4, -1)
    found = [PositionNoise(range(4)).uniform(places, 1, purpose).flatten().numpy() for purpose in PURPOSES]
    for one, other in itertools.combinations(found, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.03  # 20,000 numbers: standard deviation 0.007
    shifted = PositionNoise(range(1, 5)).uniform(places, 1).flatten().numpy()  # the purpose is no other seed
    assert not np.isin(found[1], np.concatenate([found[0], shifted])).any()


def test_uniforms_are_uniform_and_neighbours_independent():
    values = PositionNoise(range(40)).uniform(torch.arange(1000).expand(40, -1), 1)[..., 0].numpy()
    histogram = np.histogram(values, bins=20, range=(0, 1))[0]
    assert ((histogram - 2000) ** 2 / 2000).sum() < 55  # 19 degrees of freedom, p about 1e-5
    assert abs(np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(
    "noise",
    [PositionNoise([5]), GeneratorNoise(torch.Generator().manual_seed(0))],
    ids=["position", "generator"],
)
def test_normals_are_normal(noise):
    values = noise.normal(torch.arange(10_000)[None], 4).double()
    flat = values.flatten()
    assert abs(float(flat.mean())) < 0.02
    for power, moment in ((2, 1), (3, 0), (4, 3)):
        assert abs(float((flat**power).mean()) - moment) < 0.15
    for border, share in ((-1.0, 0.158655), (0.0, 0.5), (2.0, 0.97725)):
        assert abs(float((flat < border).double().mean()) - share) < 0.01
    correlations = torch.corrcoef(values[0].T) - torch.eye(4)
    assert float(correlations.abs().max()) < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_are_finite_at_the_ends(dtype, monkeypatch):
    ends = fractions(torch.tensor([[[0, -1]]]), dtype)
    monkeypatch.setattr(PositionNoise, "uniform", lambda *_: ends)
    low, high = PositionNoise([0]).normal(torch.zeros(1, 1), 2).flatten().tolist()
    assert -9 < low < -5
    assert 5 < high < 9


def test_seeds_must_be_as_many_as_rows():
    with pytest.raises(ValueError, match="3 rows need as many seeds"):
        PositionNoise([1, 2]).uniform(some_places(3), 1)


def test_a_generator_gives_its_numbers_in_turn():
    first, second = (GeneratorNoise(torch.Generator().manual_seed(2)) for _ in range(2))
    places = some_places(2)
    one = first.uniform(places, 3)
    assert one.shape == (2, 40, 3)
    assert torch.equal(second.uniform(places, 3), one)
    assert not torch.equal(first.uniform(places, 3), one)
