"""Recordings read at another rate than they were made at."""

from pathlib import Path

import numpy as np
import pytest
from unified.envs.recordings import ReadConfig, read_recording, write_recording


@pytest.fixture
def stem(tmp_path: Path) -> Path:
    """12 frames, each of a brightness of its own; every step turns by 0.9 degrees, step 4 attacks."""
    frames = [np.full((16, 16, 3), 20 * number, np.uint8) for number in range(12)]
    actions = [{"forward": 1, "attack": int(number == 4), "camera": [0.0, 0.9]} for number in range(12)]
    write_recording(tmp_path / "walk", frames, actions, fps=20)
    return tmp_path / "walk"


def shown(frames: np.ndarray) -> list[int]:
    return (frames[:, 0, 0, 0] // 20).tolist()


@pytest.mark.parametrize(
    ("rate", "kept"),
    [(20, list(range(12))), (10, [0, 2, 4, 6, 8, 10]), (6, [0, 3, 6, 10]), (5, [0, 4, 8])],
)
def test_a_lower_rate_keeps_the_frames_of_its_moments(stem: Path, rate: float, kept: list[int]) -> None:
    recording = read_recording(stem, ReadConfig(rate=rate))
    assert shown(recording.frames) == kept
    assert recording.fps == rate


def test_angles_add_up_and_no_click_is_lost(stem: Path) -> None:
    whole, fewer = read_recording(stem), read_recording(stem, ReadConfig(rate=5))
    assert [action["attack"] for action in fewer.actions] == [0, 1, 0]
    for number, action in enumerate(fewer.actions):
        turned = sum(step["camera"][1] for step in whole.actions[4 * number : 4 * number + 4])
        assert action["camera"][1] == pytest.approx(turned)
    assert all(action["forward"] for action in fewer.actions)


def test_an_action_that_is_cut_off_is_left_out(stem: Path) -> None:
    recording = read_recording(stem, ReadConfig(rate=6))  # 12 steps are 3.6 of 3 1/3
    assert len(recording.frames) == len(recording.actions) + 1 == 4
    assert len(recording.lines) == len(recording.valid) == 3


def test_the_recorded_rate_changes_nothing(stem: Path) -> None:
    same, stored = read_recording(stem, ReadConfig(rate=20)), read_recording(stem)
    assert np.array_equal(same.frames, stored.frames)
    for one, other in zip(same.actions, stored.actions, strict=True):
        assert np.allclose(one["camera"], other["camera"])
        assert {name: one[name] for name in one if name != "camera"} == {
            name: other[name] for name in other if name != "camera"
        }


@pytest.mark.parametrize("rate", [0, -5, 40])
def test_no_rate_above_the_recorded_one(stem: Path, rate: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        read_recording(stem, ReadConfig(rate=rate))
