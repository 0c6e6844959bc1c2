"""Parts switched off for a measurement, on a tiny random model."""

import json

import numpy as np
import pytest
from unified.eval import ablation
from unified.eval.ablation import ABLATIONS, frames_right, without
from unified.eval.measurement import Run

from unified.apps.assistant import DRAWING, Assistant
from unified.apps.demo import random_model
from unified.apps.looking import LOOKING
from unified.extras import EXTRAS
from unified.pretrained import save_model

FRAME = np.zeros((32, 32, 3), np.uint8)


@pytest.fixture
def run():
    return Run(assistant=Assistant(*random_model(), side=32), count=1)


@pytest.mark.parametrize(
    ("name", "settings", "field", "off"),
    [
        ("classifier-free guidance", DRAWING, "guidance", None),
        ("minimum-risk decoding", DRAWING, "minimum_risk_width", 0.0),
        ("visual contrastive decoding", LOOKING, "visual_contrast", 0.0),
    ],
)
def test_a_setting_is_off_and_the_others_stay(name, settings, field, off):
    changed = ABLATIONS[name].switched.settings(settings)
    assert getattr(settings, field) != off
    assert getattr(changed, field) == off
    assert {k: v for k, v in vars(changed).items() if k != field} == {
        k: v for k, v in vars(settings).items() if k != field
    }


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("contrastive guidance of frames", "contrast"),
        ("carried embeddings", "carry"),
        ("the mean over codes", "mean"),
    ],
)
def test_a_rollout_is_made_without_it(run, name, field):
    whole = run.rollout([[FRAME]], [0])
    less = Run(assistant=run.assistant, switched=ABLATIONS[name].switched).rollout([[FRAME]], [0])
    assert getattr(whole.writer, field)
    assert not getattr(less.writer, field)
    assert less.step([{"forward": 1}]).shape == (1, 32, 32, 3)


def test_every_extra_has_its_arm():
    assert {arm.extra for arm in ABLATIONS.values()} - {""} == set(EXTRAS)


def test_an_extra_is_taken_out():
    model, processor = random_model()
    name = next(iter(model.extras), None)
    if name is None:
        pytest.skip("the random model has no extras")
    assert name not in without(Assistant(model, processor, side=32), name).model.extras


@pytest.mark.slow
def test_the_command_writes_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablation, "MEASURES", {"world": frames_right})
    save_model(tmp_path / "tiny", *random_model())
    options = ["--model", str(tmp_path / "tiny"), "--count", "1", "--only", "carried", "--out", str(tmp_path)]
    assert ablation.main(options) == 0
    found = json.loads((tmp_path / "ablation.json").read_text())["off"]
    assert list(found) == ["everything on", "carried embeddings"]
    assert "| carried embeddings" in capsys.readouterr().out
    assert "carried embeddings" in (tmp_path / "ablation.md").read_text()
