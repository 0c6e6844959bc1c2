"""Damaged recordings: one clear message each, and the good part is kept."""

import json
import os
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest
from unified.envs.recordings import (
    RecordingStream,
    find_recordings,
    line_of,
    read_folder,
    read_recording,
    write_recording,
)
from unified.tasks.outside import Faults
from unified.tasks.outside.loading import read_all
from unified.tasks.registry import make


def turning(count):
    return [{"camera": [0, k]} for k in range(count)]


@pytest.fixture
def stem(tmp_path):
    """50 steps; frame k shows k, action k turns by k degrees."""
    frames = np.stack([np.full((16, 16, 3), k, dtype=np.uint8) for k in range(50)])
    frames[:, ::2, ::3] = np.random.default_rng(0).integers(0, 255, (50, 8, 6, 3))
    frames[:, 1, 1] = np.arange(50)[:, None]
    write_recording(tmp_path / "play", frames, turning(50))
    return tmp_path / "play"


def rewrite(stem, number, text):
    path = stem.with_name("play.jsonl")
    lines = path.read_text().splitlines()
    lines[number] = text
    path.write_text("\n".join(lines) + "\n")


def without(part, name):
    line = line_of({})
    return json.dumps({**line, part: {key: value for key, value in line[part].items() if key != name}})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{ broken", "not a JSON object"),
        ("", "not a JSON object"),
        ("[1, 2]", "not a JSON object"),
        (without("mouse", "dx"), "mouse.dx must be a finite number"),
        (without("keyboard", "keys"), "keyboard.keys must be a list"),
        (json.dumps(line_of({})).replace('"dx": 0.0', '"dx": NaN'), "NaN is not a number that JSON has"),
        (json.dumps({**line_of({}), "hotbar": 12}), "hotbar must be 0 to 8"),
        ('{"ESC": 0, "camera": [0, 1], "fly": 1}', "unknown action key 'fly'"),
        ('{"ESC": 0, "camera": [0, NaN]}', "NaN is not a number that JSON has"),
        ('{"ESC": 0, "camera": [0, 1' + "0" * 400 + "]}", "a number of 401 digits is too large"),
        ('{"ESC": 0, "camera": [0, 1e308]}', "camera must lie in -180 to 180 degrees"),
        (json.dumps(line_of({})).replace('"dx": 0.0', '"dx": 1e308'), "mouse.dx must be a finite number"),
        (json.dumps(line_of({})).replace('"x": 640.0', '"x": 1e300'), "mouse.x must be a number of pixels"),
        ("[" * 100_000, "nested more than 100 levels deep"),
    ],
)
def test_a_corrupt_line_costs_one_step_and_keeps_the_alignment(stem, text, reason):
    rewrite(stem, 20, text)
    recording = read_recording(stem)
    assert len(recording.problems) == 1
    assert "line 21 of 50 unreadable" in recording.problems[0]
    assert reason in recording.problems[0]
    assert np.flatnonzero(~recording.valid).tolist() == [20]
    transitions = list(recording.transitions())
    assert len(transitions) == 48
    for step in transitions:
        assert step.action["camera"][1] == step.frame[1, 1, 0]
        assert step.next_frame[1, 1, 0] == step.frame[1, 1, 0] + 1


def test_many_corrupt_lines_are_one_message(stem):
    for number in (3, 4, 40):
        rewrite(stem, number, "?")
    assert [problem.split(": ", 1)[1] for problem in read_recording(stem).problems] == [
        "3 lines, first line 4 of 50 unreadable, marked invalid (not a JSON object)"
    ]


def test_a_line_file_cut_in_the_middle_of_a_line(stem):
    path = stem.with_name("play.jsonl")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    recording = read_recording(stem)
    assert 20 < len(recording.actions) < 30
    assert recording.valid[:-1].all()
    assert not recording.valid[-1]
    assert len(recording.problems) == 2  # the half line, and frames that lack one


@pytest.mark.parametrize("share", [0.9, 0.5, 0.3])
def test_a_truncated_video_keeps_its_good_frames(stem, share):
    video = stem.with_name("play.mp4")
    whole = read_recording(stem).frames
    content = video.read_bytes()
    video.write_bytes(content[: int(len(content) * share)])
    recording = read_recording(stem)
    kept = len(recording.frames)
    assert 50 * share - 10 < kept < 50
    np.testing.assert_array_equal(recording.frames, whole[:kept])
    assert len(recording.actions) == kept
    assert len(recording.problems) == 1
    assert (
        f"after {kept} frames; lines without a frame are left out ({50 - kept} of 50)"
        in recording.problems[0]
    )


def test_a_video_with_fewer_frames_than_lines(stem):
    with stem.with_name("play.jsonl").open("a") as file:
        file.writelines(json.dumps(line_of({})) + "\n" for _ in range(7))
    stream = RecordingStream(stem)
    assert len(list(stream)) == 50
    assert len(stream.problems) == 1
    assert (
        "the video ends after 50 frames; lines without a frame are left out (7 of 57)" in stream.problems[0]
    )


def test_frames_beyond_the_lines_are_left_out(stem):
    path = stem.with_name("play.jsonl")
    path.write_text("\n".join(path.read_text().splitlines()[:30]) + "\n")
    recording = read_recording(stem)
    assert (len(recording.frames), len(recording.actions)) == (31, 30)
    assert "20 frames after the last line" in recording.problems[0]


@pytest.fixture
def foreign(stem):
    """The video as other programs write it: index first, B-frames, lossy. Grey 5 * k is frame k."""
    video = stem.with_name("play.mp4")
    video.unlink()
    options = {"movflags": "faststart"}
    with av.open(str(video), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=20, width=64, height=48, pix_fmt="yuv420p")
        stream.options = {"crf": "10", "bf": "3"}
        noise = np.random.default_rng(0).integers(-3, 4, (50, 48, 64, 3))
        for k in range(50):
            picture = np.clip(5 * k + noise[k], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return stem


def check_greys(recording):
    greys = recording.frames.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(greys, 5 * np.arange(len(greys)), atol=2.5)


def test_videos_of_other_programs_are_read_in_showing_order(foreign):
    recording = read_recording(foreign)
    assert (len(recording.frames), recording.problems, recording.fps) == (50, [], 20.0)
    check_greys(recording)


@pytest.mark.parametrize("share", [0.95, 0.6])
def test_a_truncated_video_of_another_program_keeps_its_good_frames(foreign, share):
    video = foreign.with_name("play.mp4")
    content = video.read_bytes()
    video.write_bytes(content[: int(len(content) * share)])
    recording = read_recording(foreign)
    assert 50 * share - 20 < len(recording.frames) < 50
    assert len(recording.problems) == 1
    check_greys(recording)


@pytest.mark.parametrize("size", [0, 100, 900])
def test_a_video_without_a_single_frame_is_refused(stem, size):
    video = stem.with_name("play.mp4")
    video.write_bytes(video.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"play\.mp4") as refusal:
        read_recording(stem)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"nonsense\n", b"\xff\x00\n{}\n"])
def test_a_line_file_without_a_usable_line_is_refused(stem, content):
    stem.with_name("play.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match="no usable line"):
        read_recording(stem)


def test_missing_files_and_empty_folders_are_refused(tmp_path, stem):
    with pytest.raises(ValueError, match=r"none\.jsonl: cannot be read"):
        read_recording(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no recording"):
        find_recordings(tmp_path / "empty")
    with pytest.raises(ValueError, match="not a folder"):
        find_recordings(tmp_path / "nowhere")
    stem.with_name("play.mp4").unlink()
    with pytest.raises(ValueError, match=r"play\.mp4"):
        read_recording(stem)


def test_one_bad_recording_does_not_stop_a_folder(tmp_path, stem):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "bad.jsonl").write_text(json.dumps(line_of({})) + "\n")
    problems = []
    recordings = list(read_folder(tmp_path, on_problem=problems.append))
    assert [len(recording.frames) for recording in recordings] == [50]
    assert len(problems) == 1
    assert "bad.mp4: not a readable video" in problems[0]


KILLED = """
import sys, time
import numpy as np
from unified.envs.recordings import RecordingWriter
writer = RecordingWriter(sys.argv[1])
for k in range(65):
    writer.append(np.full((16, 16, 3), k, dtype=np.uint8), {"camera": [0, k]})
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_recording_keeps_its_full_seconds(tmp_path):
    root = os.path.join(os.path.dirname(__file__), "..", "..", "..")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed")], cwd=root, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"ready\n"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    time.sleep(0.05)
    recording = read_recording(tmp_path / "killed")
    assert len(recording.frames) >= 60
    assert [frame[0, 0, 0] for frame in recording.frames] == list(range(len(recording.frames)))
    assert len((tmp_path / "killed.jsonl").read_text().splitlines()) == 65


def test_an_absurd_line_costs_its_step_and_not_the_folder(stem, tmp_path):
    text = json.dumps(line_of({}))
    for number, bad in enumerate(
        (
            text.replace('"dy": 0.0', '"dy": 1' + "0" * 400),
            text.replace('"keys": []', '"keys": ' + "[" * 50_000),
            '"\\ud83d"',
        )
    ):
        rewrite(stem, 4 + number, bad)
    problems: list[str] = []
    (recording,) = read_folder(stem.parent, on_problem=problems.append)
    assert len(problems) == 1
    assert np.flatnonzero(~recording.valid).tolist() == [4, 5, 6]
    faults = Faults("skip")
    assert read_all("recordings", stem.parent, None, faults) == 0
    assert [line.split(": ")[0] for line in faults.lines] == [f"play.jsonl:{line}" for line in (5, 6, 7)]


def test_half_of_a_character_that_was_typed_is_no_fault(stem):
    """The recorder notes typed characters in UTF-16, one half at a time."""
    line = line_of({"forward": 1})
    line["keyboard"]["chars"] = "\ud83d"
    rewrite(stem, 4, json.dumps(line))
    recording = read_recording(stem)
    assert recording.valid.all()
    assert recording.actions[4]["forward"] == 1


def test_files_of_other_systems(stem, tmp_path):
    """Endings in capitals, byte order mark, CRLF, unknown buttons, and hidden files beside the data."""
    lines = stem.with_name("play.jsonl").read_text().splitlines()
    line = json.loads(lines[3])
    line["mouse"]["buttons"] += [7, -1]
    lines[3] = json.dumps(line)
    content = b"\xef\xbb\xbf" + "\r\n".join(lines).encode()
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "Play.MP4").write_bytes(stem.with_name("play.mp4").read_bytes())
    (folder / "Play.JSONL").write_bytes(content)
    for name in ("._Play.mp4", "._Play.jsonl", ".DS_Store"):
        (folder / name).write_bytes(b"\0\1")
    assert [found.name for found in find_recordings(folder)] == ["Play"]
    (recording,) = read_folder(folder, on_problem=pytest.fail)
    assert recording.valid.all()
    assert len(recording.actions) == 50


def test_clips_pass_over_a_recording_that_cannot_be_read(stem, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for kind in ("mp4", "jsonl"):
        (folder / f"bad.{kind}").write_bytes(b"<html>404</html>\n" * 50)
        (folder / f"good.{kind}").write_bytes(stem.with_name(f"play.{kind}").read_bytes())
    task = make("world_recordings", folder=str(folder), size=8, frames=4, validation=0, test=0)
    with pytest.warns(UserWarning, match=r"left out: .*bad.jsonl: no usable line") as told:
        samples = [task.sample(index) for index in range(30)]
    assert {sample.meta["recording"] for sample in samples} == {"good"}
    assert len(told) == 1
