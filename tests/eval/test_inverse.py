"""The inverse dynamics model: it learns which action lies between two frames, and goes through a file."""

import numpy as np
import pytest
import torch
from unified.eval.inverse import (
    HEADS,
    InverseConfig,
    InverseModel,
    InverseTraining,
    Steps,
    load,
    main,
    save,
    score,
    steps_of,
    train,
    truth_of,
    watched,
)

SMALL = InverseConfig(width=8, size=32)


def moving_square(actions, size=32):
    """A world in which a square moves down and right as the camera turns."""
    place, frames = np.array([size // 2, size // 2]), []
    for action in [{"camera": (0, 0)}, *actions]:
        place = (place + np.array(action["camera"], int)) % (size - 8)
        frame = np.full((size, size, 3), 90, np.uint8)
        frame[place[0] : place[0] + 8, place[1] : place[1] + 8] = (255, 200, 0)
        frames.append(frame)
    return np.stack(frames)


def test_it_learns_what_moves_a_picture():
    rng = np.random.default_rng(0)
    turns = rng.choice([-6, 0, 6], (400, 2))
    actions = [{"camera": turn} for turn in turns]
    frames, truth = torch.from_numpy(moving_square(actions)), truth_of(actions)
    data = Steps(frames[None], {name: torch.from_numpy(found) for name, found in truth.items()})
    torch.set_num_threads(1)
    model = train(data, SMALL, InverseTraining(epochs=16, batch=32))
    fresh = [{"camera": turn} for turn in rng.choice([-6, 0, 6], (100, 2))]
    found = model.read(moving_square(fresh))
    true = truth_of(fresh)
    assert (found["yaw"] == true["yaw"]).mean() > 0.8
    assert (found["yaw"] == np.roll(true["yaw"], 7)).mean() < 0.5


def test_true_clips_become_windows_of_frames():
    data = steps_of(watched(8, "train", size=32, frames=9))
    assert (len(data), data.clips.shape) == (64, (8, 9, 32, 32, 3))
    windows = data.windows(torch.tensor([0, 11, 63]), 1)
    expected = [(0, [0, 0, 1, 2]), (1, [2, 3, 4, 5]), (7, [6, 7, 8, 8])]
    for window, (clip, frames) in zip(windows, expected, strict=True):
        assert torch.equal(window, data.clips[clip, frames])
    assert all(len(found) == 64 for found in data.truth.values())
    result = score(InverseModel(SMALL).eval(), data)
    assert 0 <= result["macro_f1"] <= 1


def test_it_goes_through_a_file(tmp_path):
    torch.manual_seed(0)
    model = InverseModel(SMALL).eval()
    save(model, tmp_path / "a.safetensors", {"clips": 3})
    again = load(tmp_path / "a.safetensors")
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    assert again.config == SMALL
    found, expected = again.read(frames), model.half().float().read(frames)
    assert all(np.array_equal(found[name], expected[name]) for name in HEADS)
    (tmp_path / "b.safetensors").write_bytes(b"nonsense")
    for name in ("b.safetensors", "c.safetensors"):
        with pytest.raises(ValueError, match=name):
            load(tmp_path / name)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--out", "/nowhere/a.safetensors"],
        ["--out", "a.safetensors", "--width", "7"],
        ["--out", "a", "--clips", "0"],
    ],
)
def test_bad_input_is_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_command_trains_and_writes(tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    arguments = ["--clips", "10", "--test-clips", "3", "--epochs", "1", "--width", "8", "--size", "32"]
    assert main(["--out", str(path), *arguments]) == 0
    assert "macro F1" in capsys.readouterr().out
    assert load(path).config.size == 32
