"""The inverse dynamics model: it learns which action lies between two frames, and goes through a file."""

import numpy as np
import pytest
import torch
from unified.eval.inverse import main, score
from unified.tasks.worlds.inverse import (
    HEADS,
    InverseConfig,
    InverseModel,
    InverseTraining,
    Steps,
    blurred,
    cost_volume,
    load,
    save,
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


@pytest.mark.slow
def test_it_learns_what_moves_a_picture():
    rng = np.random.default_rng(0)
    turns = rng.choice([-6, 0, 6], (400, 2))
    actions = [{"camera": turn} for turn in turns]
    frames, truth = torch.from_numpy(moving_square(actions)), truth_of(actions)
    clips = torch.stack([frames[start : start + 9] for start in range(0, 400, 8)])
    data = Steps(clips, {name: torch.from_numpy(found).view(50, 8) for name, found in truth.items()})
    torch.set_num_threads(1)
    model = train(data, SMALL, InverseTraining(epochs=40, batch=8))
    fresh = [{"camera": turn} for turn in rng.choice([-6, 0, 6], (100, 2))]
    found = model.read(moving_square(fresh))
    true = truth_of(fresh)
    assert (found["yaw"] == true["yaw"]).mean() > 0.8
    assert (found["yaw"] == np.roll(true["yaw"], 7)).mean() < 0.5


def test_clips_come_with_the_class_of_every_step():
    data = steps_of(watched(8, "train", size=32, frames=9))
    assert (len(data), data.clips.shape) == (8, (8, 9, 32, 32, 3))
    clips = list(watched(8, "train", size=32, frames=9))
    assert all(np.array_equal(found, truth_of(clips[5].actions)[name])
               for name, found in ((name, data.truth[name][5].numpy()) for name in HEADS))  # fmt: skip
    result = score(InverseModel(SMALL).eval(), data)
    assert 0 <= result["macro_f1"] <= 1


def test_places_are_compared_with_those_around_them():
    torch.manual_seed(0)
    before, after = torch.randn(2, 3, 64, 5, 6)
    found = cost_volume(before, after, 2)
    assert found.shape == (3, 25, 5, 6)
    expected = (before[1, :, 3, 2] * after[1, :, 4, 0]).sum() / 64**0.5
    assert torch.allclose(found[1, 3 * 5 + 0, 3, 2], expected, atol=1e-5)  # a row further, two columns back
    assert found[:, :5, 1].abs().max() == 0  # two rows back, beyond the border
    moved = torch.roll(before, (1, -1), dims=(2, 3))
    assert (cost_volume(before, moved, 1)[:, :, 1:-1, 1:-1].argmax(dim=1) == 2 * 3 + 0).float().mean() > 0.9


def test_some_clips_grow_blurred():
    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (40, 17, 16, 16, 3), generator=generator, dtype=torch.uint8)
    assert torch.equal(blurred(clips, 0.0, generator), clips.float())
    found = blurred(clips, 0.5, generator)
    assert torch.equal(found[:, 0], clips[:, 0].float())
    sharpness = (found[:, :, 1:] - found[:, :, :-1]).abs().mean(dim=(2, 3, 4))  # [clips, frames]
    assert (sharpness.diff(dim=1) < -30).any(dim=1).float().mean() > 0.25
    assert not (sharpness.diff(dim=1) > 20).any()
    assert torch.equal(found, found.clamp(0, 255))


def test_a_step_is_read_with_what_comes_before_and_after():
    torch.manual_seed(0)
    model = InverseModel(SMALL).eval()
    clips = torch.randint(0, 256, (1, 6, 32, 32, 3), dtype=torch.uint8)
    other = clips.clone()
    other[:, 5] = 0
    with torch.no_grad():
        assert not torch.equal(model(clips)["yaw"][:, 0], model(other)["yaw"][:, 0])


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
        ["--out", "a.safetensors", "--start", "nowhere.safetensors"],
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
    further = tmp_path / "b.safetensors"
    assert main(["--out", str(further), *arguments[:4], "--epochs", "8", "--start", str(path)]) == 0
    assert load(further).config == load(path).config
    assert not torch.equal(load(further).mix[0].weight, load(path).mix[0].weight)
