"""World models of one block and of maps: trained small, rolled out, in one table."""

import json

import numpy as np
import pytest
import torch
from unified.eval.lab import worlds
from unified.eval.lab.ground.clips import PAST, Clips
from unified.eval.lab.sizes import TOY


def clips(count=4, length=5):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (count, length, 32, 32, 3), dtype=np.uint8)
    moves, turns = rng.integers(0, 5, (count, length - 1)), rng.integers(0, 3, (count, length - 1))
    return Clips(frames, torch.from_numpy(np.stack([moves, turns], axis=-1)))


@pytest.mark.parametrize("name", worlds.WORLDS)
def test_a_world_is_trained_and_draws_the_same_each_time(name, tmp_path):
    study = worlds.Study(TOY, clips(), 0, 2, tmp_path)
    made = worlds.WORLDS[name](study)
    past, acted = study.clips.frames[:2, :PAST], study.clips.actions[:2, :PAST]
    frame = made.draw(past, acted, 3)
    assert frame.shape == (2, 32, 32, 3)
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, made.draw(past, acted, 3))
    assert (frame != made.draw(past, acted, 4)).any()


def test_measures_are_by_horizon():
    test = clips()
    perfect = worlds.World(lambda past, acted, seed: test.frames[:, PAST + seed // 100], 1.0)
    found = worlds.measured(perfect, test, 3, 0)
    assert min(found["psnr"]) > 70
    assert found["drift"] == [0.0] * 3
    still = worlds.copied(test, 3)
    assert max(still["psnr"]) < 12
    lines = worlds.table({"copy": {**still, "training": 0.0}, "perfect": {**found, "training": 1.0}})
    assert lines[0] == "| | | 1 | 2 | 3 | training, s |"
    assert len(lines) == 8


def test_bad_input_is_one_line(tmp_path, capsys):
    assert worlds.main(["--toy", "--horizon", "0", "--work", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "unified.eval.lab.worlds: horizon must be a whole number of at least 1, got 0\n"
    )


@pytest.mark.slow
def test_one_command_prints_the_table(tmp_path, capsys):
    told = ["--toy", "--horizon", "2", "--work", str(tmp_path), "--json"]
    assert worlds.main(told) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["copy", "next scale", "one block", "ACDiT"]
    assert all(len(numbers["psnr"]) == 2 for numbers in found.values())
