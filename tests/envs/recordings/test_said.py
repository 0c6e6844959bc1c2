"""What recordings say: unknown recorder versions once, and one line about themselves."""

import warnings

import numpy as np
import pytest
from unified.envs.recordings import ReadConfig, RecordingWriter, read_recording, read_track


@pytest.fixture
def stem(tmp_path):
    with RecordingWriter(tmp_path / "walk") as writer:
        for step in range(30):
            writer.append(np.full((36, 64, 3), step, np.uint8), {"forward": step % 2})
    return tmp_path / "walk"


def test_an_unknown_version_is_said_once(stem):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for version in ("6.8", "77.1", "77.1", "seven"):
            read_recording(stem, ReadConfig(recorder_version=version))
    texts = [str(one.message) for one in said if "recorder version" in str(one.message)]
    assert len(texts) == 2
    assert "'77.1'" in texts[0]
    assert "5.7, 5.8, 6.7, 6.8, 6.9" in texts[0]
    assert "'seven'" in texts[1]


@pytest.mark.parametrize("version", [6.8, "", 7])
def test_a_version_is_a_text(version):
    with pytest.raises(ValueError, match="recorder_version must be a text such as"):
        ReadConfig(recorder_version=version)


def test_long_recordings_and_tracks_are_one_line(stem):
    recording, track = read_recording(stem), read_track(stem.with_suffix(".jsonl"))
    size = "30 frames of 36 x 64 at 20 fps"
    assert repr(recording) == f"Recording({size}, 30 actions, 0 not readable, 0 problems)"
    assert repr(track) == "Track(30 actions, 0 not readable)"
    assert all(len(repr(step)) < 120 for step in recording.transitions())
