"""Training of controls: the loss falls, the base stays bit for bit, files are had back."""

import numpy as np
import pytest
import torch
from PIL import Image
from unified.train.adapters.controls import (
    ControlConfig,
    Shown,
    captioned,
    given_steps,
    plain_pictures,
    train_control,
)
from unified.train.adapters.rows import Rows, row_of, scores
from unified.train.adapters.tuning import TuningConfig

from unified.adapter_files import fingerprint, read_adapter
from unified.apps.adapters import Adapters
from unified.apps.conditions import edges, features
from unified.apps.demo import random_model


def scene(number):
    picture = np.full((32, 32, 3), 40 * number, dtype=np.uint8)
    picture[4 * number : 4 * number + 12, 8:24] = (200, 30, 90)
    return picture


@pytest.fixture(scope="module")
def tiny():
    return random_model()


@pytest.mark.parametrize(
    ("kind", "condition"),
    [("scale_control", "edges"), ("reference_attention", "given"), ("scale_control", "small")],
)
def test_a_few_steps_make_the_loss_fall_and_leave_the_base(tiny, tmp_path, kind, condition):
    model, processor = tiny
    before, lines = fingerprint(model), []
    data = [Shown(scene(n), f"picture {n}", scene(n + 1)) for n in range(2)]
    tuning = TuningConfig(steps=8, rows=2, learning_rate=1e-2, log_every=4)
    config = ControlConfig(kind=kind, condition=condition, size=32, tuning=tuning)
    losses = train_control(model, processor, data, config, tmp_path / "a.safetensors", lines.append)
    assert sum(losses[-2:]) < sum(losses[:2]) - 0.5
    assert len(lines) == 2
    assert fingerprint(model) == before
    assert all(parameter.requires_grad for parameter in model.parameters())
    options = read_adapter(tmp_path / "a.safetensors").options
    assert options["condition"] == condition
    assert ("factor" in options) == (condition == "small")
    adapters = Adapters(model)
    adapters.load(tmp_path / "a.safetensors")
    assert adapters.control(condition).kind == kind


@pytest.mark.slow
def test_what_was_learnt_is_what_the_condition_says(tiny, tmp_path):
    """Two pictures under one request: each is likelier under its own edges than under the other's."""
    (model, processor), path = tiny, tmp_path / "a.safetensors"
    data = [Shown(scene(n), "a square") for n in range(2)]
    tuning = TuningConfig(steps=220, rows=2, learning_rate=1e-2, log_every=110)
    train_control(model, processor, data, ControlConfig(size=32, tuning=tuning), path, lambda _: None)
    adapters = Adapters(model)
    adapters.load(path)
    rows = Rows.of([row_of(processor, one.words, one.picture) for one in data], model)
    shown = torch.from_numpy(np.stack([edges(one.picture) for one in data])).permute(0, 3, 1, 2) / 127.5 - 1
    part, losses = adapters.control("edges").modules["part"], []
    with torch.no_grad():
        for conditions in (shown, shown.flip(0)):
            found = scores(model, rows, [part.reading(features(conditions, rows.plan), rows.plan)])
            losses.append(-(found.log_probs * found.weights).sum(dim=1))
    print(losses)
    assert bool((losses[0] < losses[1] - 0.1).all())


def test_data_is_read_and_bad_data_told_in_one_line(tmp_path):
    images, beside = tmp_path / "images", tmp_path / "beside"
    for folder in (images, beside):
        folder.mkdir()
        Image.fromarray(scene(1)).save(folder / "a.png")
    (images / "a.txt").write_text("a square")
    (shown,) = captioned([images], 16, beside)
    assert (shown.picture.shape, shown.words, shown.condition.shape) == ((16, 16, 3), "a square", (16, 16, 3))
    (beside / "a.png").rename(beside / "b.png")
    for call in (
        lambda: captioned([images], 16, beside),
        lambda: captioned([beside], 16),
        lambda: plain_pictures([tmp_path / "nowhere"], 16),
        lambda: ControlConfig(condition="small", factor=1),
        lambda: TuningConfig(steps=0),
    ):
        with pytest.raises(ValueError, match=r"\w") as error:
            call()
        assert len(str(error.value).splitlines()) == 1
    assert min(plain_pictures([images], 64)[0].picture.shape[:2]) == 64


def test_maps_that_are_given_are_not_trained():
    assert given_steps([(1, 1), (2, 2), (4, 4), (8, 8), (16, 16)], 2) == 4
    assert given_steps([(1, 1), (2, 2), (4, 4)], 8) == 0
