"""Self-autoregressive refinement against its released trainer."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unified.checkpoints.__main__ import main
from unified.checkpoints.flexvar import draw_sides
from unified.checkpoints.sar_verify import schedules

PACK = Path(__file__).parents[4] / "shared" / "golden" / "sar"
needs_golden = pytest.mark.skipif(
    not PACK.is_dir(), reason="the reference vectors (../shared/golden) are absent"
)
CHANGED = {
    "schedules": 1,
    "csfl_argmax.predicted_ids": 1,
    "csfl_cfg.grad.word_embed.weight": 0.1,
    "csfl_cfg.grad_norm_all": 0.1,
    "csfl_sample_nocfg.sf_logits": 0.1,
    "gt_argmax.sf_loss": 0.01,
    "teacher.total_loss": 0.01,
    "derived_all_scales.ce_per_scale": 0.01,
}


@needs_golden
def test_every_tensor_agrees_and_changed_ones_do_not(tmp_path, capsys):
    assert main(["verify", str(PACK)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("skip") for line in lines) == 2
    tensors = load_file(PACK / "io.safetensors")
    for name, by in CHANGED.items():
        tensors[name].view(-1)[0] += by
    for name in ("config.json", "weights.safetensors"):
        shutil.copy(PACK / name, tmp_path)
    save_file(tensors, tmp_path / "io.safetensors")
    assert main(["verify", str(tmp_path)]) == 1
    failed = {line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")}
    assert failed == {f"{name}:" for name in CHANGED}


@needs_golden
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cases": None}, "lacks cases"),
        ({"derived_from": "teacher"}, "names no case to derive"),
        ({"schedule": [1]}, "a schedule needs two maps"),
        ({"sigma": None}, "lacks sigma"),
        ({"training_mode": "full"}, "training_mode"),
    ],
)
def test_what_does_not_fit_is_one_line(change, words, tmp_path, capsys):
    config = json.loads((PACK / "config.json").read_text())
    inside = set(change) & set(config["cases"]["csfl_argmax"]) and "cases" not in change
    told = config["cases"]["csfl_argmax"] if inside else config
    told.update(change)
    for name in [name for name, value in change.items() if value is None]:
        del told[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name in ("io", "weights"):
        (tmp_path / f"{name}.safetensors").symlink_to(PACK / f"{name}.safetensors")
    assert main(["verify", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_schedules_are_drawn_one_after_another():
    found, rng = schedules(5, 30, 10), random.Random(5)
    for row in found:
        sides = draw_sides(rng, keep_finest=False)
        assert row.tolist() == sides + [0] * (10 - len(sides))
    assert (found.square().sum(dim=1) <= 680).all()
    assert not torch.equal(found, schedules(6, 30, 10))
