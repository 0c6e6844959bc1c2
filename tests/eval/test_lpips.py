"""LPIPS on random weights: against another implementation of its formula, and against what it must do."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from unified.eval.metrics.lpips import ALEXNET, LPIPS, VGG16, Activations, load

NETWORKS = {"alex": ALEXNET, "vgg": VGG16}
WIDTHS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
NUMBERS = {"alex": (0, 3, 6, 8, 10), "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}


def weights(kind: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A backbone with a classifier as torchvision stores them, and LPIPS's own weights."""
    rng = torch.Generator().manual_seed(0)
    backbone = {
        name: torch.randn(value.shape, generator=rng) / value[0].numel() ** 0.5
        for name, value in Activations(NETWORKS[kind]).state_dict().items()
    }
    linear = {
        f"lin{number}.model.1.weight": torch.rand(1, width, 1, 1, generator=rng)
        for number, width in enumerate(WIDTHS[kind])
    }
    return {**backbone, "classifier.6.weight": torch.zeros(3, 3)}, linear


def images(seed: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 40, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", NETWORKS)
def test_names_are_those_of_torchvision(kind: str) -> None:
    backbone, _ = weights(kind)
    found = {int(name.split(".")[1]) for name in backbone if name.startswith("features.")}
    assert sorted(found) == list(NUMBERS[kind])


@pytest.mark.parametrize("kind", NETWORKS)
def test_it_agrees_with_torchmetrics(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchmetrics")
    theirs = importlib.import_module("torchmetrics.functional.image.lpips")
    backbone, linear = weights(kind)
    ours = LPIPS(backbone, linear)
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *_, **__: plain(ours.network.features))
    reference = theirs._LPIPS(pretrained=False, net=kind, pnet_rand=True)
    own = {name: value for name, value in linear.items()}
    reference.load_state_dict(OrderedDict(reference.state_dict(), **own))
    reference.eval()
    one, other = images(0), images(1)
    pair = [torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1 for x in (one, other)]
    with torch.no_grad():
        expected = reference(*pair).flatten().numpy()
    np.testing.assert_allclose(ours(one, other), expected, rtol=2e-5)


def plain(features: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(*features)


def test_it_is_a_distance_that_grows_with_damage() -> None:
    measure, clean = LPIPS(*weights("alex")), images(0)
    assert np.array_equal(measure(clean, clean), np.zeros(3))
    noise = np.random.default_rng(2).normal(0, 1, clean.shape)
    damaged = [np.clip(clean + 20 * level * noise, 0, 255).astype(np.uint8) for level in (1, 2, 4)]
    values = [measure(image, clean).mean() for image in damaged]
    assert values == sorted(values)
    assert values[0] > 0
    np.testing.assert_allclose(measure(damaged[0], clean), measure(clean, damaged[0]), rtol=1e-5)
    many = np.concatenate([clean] * 7)
    np.testing.assert_allclose(measure(many, many[::-1].copy())[:3], measure(clean, clean[::-1]), rtol=1e-5)


def test_it_is_read_from_files_and_says_which_network(tmp_path: Path) -> None:
    backbone, linear = weights("alex")
    torch.save(backbone, tmp_path / "alexnet.pth")
    torch.save(linear, tmp_path / "alex.pth")
    measure = load(tmp_path / "alexnet.pth", tmp_path / "alex.pth")
    assert measure.name == "lpips-alexnet"
    assert np.array_equal(measure(images(0), images(1)), LPIPS(backbone, linear)(images(0), images(1)))


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    (backbone, linear), (other, _) = weights("alex"), weights("vgg")
    cases = [
        (lambda: LPIPS(other, linear), "lin1.model.1.weight"),
        (lambda: LPIPS({}, linear), "features.0.weight"),
        (lambda: LPIPS(backbone, {}), "missing"),
        (lambda: LPIPS(backbone, linear)(images(0), images(0)[:2]), "different sizes"),
        (lambda: LPIPS(backbone, linear)(images(0) / 255, images(0)), "uint8"),
        (lambda: LPIPS(backbone, linear)(images(0)[:, :16], images(0)[:, :16]), "at least 32 pixels"),
        (lambda: load(tmp_path / "none.pth", tmp_path / "none.pth"), "no such file"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
