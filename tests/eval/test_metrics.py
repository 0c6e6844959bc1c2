"""Metrics on inputs whose value is known."""

import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from unified.eval.metrics.codebook import CodeCount
from unified.eval.metrics.following import accuracy, by_bin, by_key, f1, macro_f1, varied
from unified.eval.metrics.frechet import Gaussian, RandomConvFeatures, frechet, frechet_of
from unified.eval.metrics.images import decibel, pooled_psnr, psnr, squared_error, ssim
from unified.eval.metrics.rates import mean, rate, wilson
from unified.eval.metrics.sharpness import edge_energy, gaussian_blur, sharpness_ratio
from unified.tasks.worlds.action_classes import CLASSES, bin_degrees, camera_bins, labels


def noise(seed, shape=(32, 32, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# Rates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (500, 1000, 0.4691, 0.5309)],
)
def test_wilson_agrees_with_published_values(successes, trials, low, high):
    assert wilson(successes, trials) == pytest.approx((low, high), abs=2e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = rng.binomial(80, 0.9, 4000)
    covered = np.mean([low <= 0.9 <= high for low, high in (wilson(int(k), 80) for k in hits)])
    assert 0.93 <= covered <= 0.97


def test_estimates_read_well():
    assert str(rate([1, 1, 1, 0])) == "75.0 % (30.1 to 95.4)"
    assert str(mean([28.0, 29.0, 30.0])) == "29.00 (27.87 to 30.13)"
    assert str(rate([])) == "no samples"
    with pytest.raises(ValueError, match="0 to 1"):
        rate([2.0])
    assert mean([3.0]).high == math.inf


# Images ----------------------------------------------------------------------------------------


def test_psnr_of_a_known_error():
    black, grey = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 51, np.uint8)  # 51 = 255 / 5
    assert psnr(grey, black) == pytest.approx(20 * math.log10(5))
    assert psnr(grey, grey) == 100
    assert squared_error(grey, black) == pytest.approx(0.04)
    assert decibel(0.0) == 100
    with pytest.raises(ValueError, match="different sizes"):
        squared_error(black, np.zeros((8, 8, 3), np.uint8))


def test_pooled_psnr_is_not_swayed_by_images_that_are_equal():
    black, grey = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 51, np.uint8)
    pooled = pooled_psnr([grey, black], [black, black])
    assert pooled == pytest.approx(20 * math.log10(5) + 10 * math.log10(2))
    assert np.mean([psnr(grey, black), psnr(black, black)]) > pooled + 30
    with pytest.raises(ValueError, match="no images"):
        pooled_psnr([], [])


def test_ssim_and_psnr_agree_with_other_libraries():
    torchmetrics = pytest.importorskip("torchmetrics.functional.image")
    import torch

    for seed in range(4):
        truth = noise(seed, (48, 40, 3))
        made = np.clip(truth + np.random.default_rng(seed).normal(0, 20, truth.shape), 0, 255).astype(
            np.uint8
        )
        pair = [torch.from_numpy(x).permute(2, 0, 1)[None].double() / 255 for x in (made, truth)]
        theirs = torchmetrics.peak_signal_noise_ratio(*pair, data_range=1.0).item()
        assert psnr(made, truth) == pytest.approx(theirs, abs=1e-4)
        theirs = torchmetrics.structural_similarity_index_measure(*pair, data_range=1.0).item()
        assert ssim(made, truth) == pytest.approx(theirs, abs=2e-3)  # it pads the border
    assert ssim(truth, truth) == 1


# Frechet ----------------------------------------------------------------------------------------


def test_frechet_of_known_gaussians():
    scale = np.diag([4.0, 9.0])
    assert frechet(np.zeros(2), np.eye(2), np.array([3.0, 4.0]), np.eye(2)) == pytest.approx(25)
    expected = (2 - 1) ** 2 + (3 - 1) ** 2
    assert frechet(np.zeros(2), np.eye(2), np.zeros(2), scale) == pytest.approx(expected)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]
    turned = [turn @ cov @ turn.T for cov in (np.eye(2), scale)]
    assert frechet(np.zeros(2), turned[0], np.zeros(2), turned[1]) == pytest.approx(expected)


def test_moments_added_in_parts_are_those_of_the_whole():
    features = np.random.default_rng(0).normal(3, 2, (500, 5))
    whole = Gaussian()
    for part in np.split(features, [100, 101, 400]):
        whole.add(part)
    assert np.allclose(whole.mean, features.mean(axis=0))
    assert np.allclose(whole.covariance, np.cov(features.T))


def test_the_distance_is_zero_for_equal_sets_and_grows_with_damage():
    rng = np.random.default_rng(0)
    real = [np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((4, 4, 1))).astype(np.uint8) for _ in range(150)]
    features = RandomConvFeatures()
    spoilt = [
        [np.clip(image + rng.normal(0, level, image.shape), 0, 255).astype(np.uint8) for image in real]
        for level in (4, 12, 30, 70)
    ]
    distances = [frechet_of(real, images, features) for images in (real, *spoilt)]
    assert distances[0] == pytest.approx(0, abs=1e-5)
    assert distances == sorted(distances)
    assert distances[-1] > 10 * distances[1]


def test_features_are_named_by_their_weights():
    assert RandomConvFeatures().name == RandomConvFeatures().name
    assert RandomConvFeatures(seed=1).name != RandomConvFeatures().name
    with pytest.raises(ValueError, match="uint8"):
        RandomConvFeatures()(np.zeros((1, 8, 8, 3)))


# Codebooks ----------------------------------------------------------------------------------------


def test_usage_and_perplexity():
    count = CodeCount(8)
    assert (count.usage, count.perplexity) == (0, 0)
    count.add(np.array([[0, 1], [2, 3]]))
    assert (count.usage, count.perplexity) == (0.5, pytest.approx(4))
    count.add(np.zeros(10_000, np.int64))
    assert count.usage == 0.5
    assert count.perplexity < 1.1
    with pytest.raises(ValueError, match="0 to 7"):
        count.add(np.array([8]))


# Following ----------------------------------------------------------------------------------------


def test_actions_become_the_published_classes():
    actions = [{}, {"back": 1}, {"forward": 1}, {"back": 1, "forward": 1}, {"jump": 1, "sprint": 1}]
    found = labels(actions)
    assert found["back/forward"].tolist() == [0, 1, 2, 0, 0]
    assert found["sneak/sprint"].tolist() == [0, 0, 0, 0, 2]
    assert found["jump"].tolist() == [0, 0, 0, 0, 1]
    assert varied(found) == ["back/forward", "sneak/sprint", "jump"]


def test_camera_bins_are_those_of_vpt():
    angles = [0.0, 0.3, 1.0, 3.0, 6.0, 10.0, 90.0]
    # round((sign(u) log(1 + 10 |u|) / log 11 * 10 + 10) / 2), u = angle / 10
    expected = [5, 6, 6, 8, 9, 10, 10]
    assert camera_bins([{"camera": [a, -a]} for a in angles])[:, 0].tolist() == expected
    assert camera_bins([{"camera": [a, -a]} for a in angles])[:, 1].tolist() == [10 - b for b in expected]


def test_camera_bins_agree_with_the_golden_ones():
    path = Path(__file__).resolve().parents[3] / "shared/golden/mineworld_actions/io.safetensors"
    if not path.is_file():
        pytest.skip("needs the golden file of MineWorld's actions beside the repository")
    stored = load_file(path)
    angles = stored["camera_degrees"]
    found = camera_bins([{"camera": [angle, 0.0]} for angle in angles])[:, 0]
    assert np.array_equal(found, stored["vpt_camera_bins"])


def test_macro_f1_agrees_with_its_definition():
    truth, made = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2])
    # F1: class 0 2*2/(3+3), class 1 2*1/(2+2), class 2 1
    assert macro_f1(made, truth) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert macro_f1(truth, truth) == 1
    assert macro_f1(np.zeros(6, int), np.zeros(6, int)) == 1, "absent classes are left out"
    always = {name: np.zeros(100, int) for name in CLASSES}
    half = {name: np.arange(100) % 2 for name in CLASSES}
    assert f1(always, half) == pytest.approx(1 / 3)
    assert accuracy(always, half) == 0.5
    with pytest.raises(ValueError, match="nothing to follow"):
        f1(always, half, [])


def test_sharpness_is_lost_by_blurring_and_gained_by_noise():
    rng = np.random.default_rng(0)
    true = [np.kron(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))] * 2
    ratios = [
        sharpness_ratio([gaussian_blur(image, sigma) for image in true], true) for sigma in (0.5, 1, 2, 4)
    ]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] < 1
    assert sharpness_ratio(true, true) == 1
    noisy = [np.clip(image + rng.normal(0, 20, image.shape), 0, 255).astype(np.uint8) for image in true]
    assert sharpness_ratio(noisy, true) > 1
    step = np.zeros((4, 4, 3), np.uint8)
    step[:, 2:] = 255
    assert edge_energy(step) == pytest.approx(1 / 3)  # one of three differences along rows is 1
    assert sharpness_ratio([step], [step * 0]) == float("inf")


def test_every_key_and_bin_is_counted():
    truth = labels([{"forward": 1}, {"forward": 1, "jump": 1}, {"back": 1}, {}])
    read = labels([{"forward": 1}, {"jump": 1}, {"forward": 1}, {}])
    keys = by_key(read, truth)
    assert keys["forward"] == {"count": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert keys["jump"]["f1"] == 1
    assert keys["attack"] == {"count": 0, "precision": 0, "recall": 0, "f1": 0}
    bins = by_bin(np.array([5, 6, 9, 5]), np.array([5, 5, 9, 10]))
    assert bins == {
        5: {"count": 2, "exact": 0.5, "read": 5.5},
        9: {"count": 1, "exact": 1, "read": 9},
        10: {"count": 1, "exact": 0, "read": 5},
    }


def test_a_bin_has_its_angle_in_the_middle():
    angles = [bin_degrees(label) for label in range(11)]
    assert angles[0] == pytest.approx(-10)
    assert angles[5] == 0
    assert angles[10] == pytest.approx(10)
    assert camera_bins([{"camera": [angle, -angle]} for angle in angles]).tolist() == [
        [label, 10 - label] for label in range(11)
    ]
