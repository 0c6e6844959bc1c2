"""Self-autoregressive refinement against its released trainer."""

import random
import sys
from pathlib import Path

import pytest
import torch

from unified.checkpoints.flexvar import draw_sides
from unified.checkpoints.sar_verify import schedules

sys.path.insert(0, str(Path(__file__).parents[2]))
from golden_folders import changed, compared, copied, needs, refused

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


@needs("sar")
def test_every_tensor_agrees_and_changed_ones_do_not(tmp_path, capsys):
    assert len(compared("sar", tmp_path, capsys, CHANGED)) == 2


@needs("sar")
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
    def told(config):
        case = config["cases"]["csfl_argmax"]
        changed(case if set(change) <= set(case) else config, change)

    assert words in refused(copied("sar", tmp_path, config=told), capsys)


def test_schedules_are_drawn_one_after_another():
    found, rng = schedules(5, 30, 10), random.Random(5)
    for row in found:
        sides = draw_sides(rng, keep_finest=False)
        assert row.tolist() == sides + [0] * (10 - len(sides))
    assert (found.square().sum(dim=1) <= 680).all()
    assert not torch.equal(found, schedules(6, 30, 10))
