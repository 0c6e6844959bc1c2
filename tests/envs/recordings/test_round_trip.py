"""What is written is what is read: frames, actions, alignment, rates, sizes."""

import json

import numpy as np
import pytest
from unified.envs.recordings import (
    ReadConfig,
    RecordingStream,
    RecordingWriter,
    action_of,
    find_recordings,
    line_of,
    read_folder,
    read_recording,
    write_recording,
)
from unified.envs.recordings.video import resize
from unified.tokenizers.action import BUTTONS, complete

RNG = np.random.default_rng(0)


def noise(count, height=24, width=32):
    return RNG.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def random_actions(count):
    """Every button now and then, contradictions included, and angles down to hundredths of a degree."""
    pressed = RNG.random((count, len(BUTTONS))) < 0.1
    cameras = RNG.normal(0, 1, (count, 2)).astype(np.float32) * RNG.choice([0.01, 1, 40], (count, 1))
    return [
        complete({**dict(zip(BUTTONS, map(int, pressed[k]), strict=True)), "camera": cameras[k]})
        for k in range(count)
    ]


def numbered(count):
    """Frame k shows the number k as a plain grey."""
    return np.stack([np.full((16, 16, 3), 5 * k, dtype=np.uint8) for k in range(count)])


def same(left, right):
    return all(np.array_equal(left[name], right[name]) for name in (*BUTTONS, "camera"))


@pytest.mark.parametrize("closing", [0, 1], ids=["no closing frame", "closing frame"])
def test_frames_and_actions_come_back_bit_for_bit(tmp_path, closing):
    frames, actions = noise(45 + closing), random_actions(45)
    write_recording(tmp_path / "a.b-1", frames, actions, meta={"seed": 3})
    recording = read_recording(tmp_path / "a.b-1.mp4")
    np.testing.assert_array_equal(recording.frames, frames)
    assert len(recording.actions) == 45
    assert all(same(got, want) for got, want in zip(recording.actions, actions, strict=True))
    assert recording.problems == []
    assert recording.valid.all()
    assert recording.meta == {"seed": 3}
    assert len(list(recording.transitions())) == 44 + closing


def test_line_k_acts_on_frame_k_and_is_seen_in_frame_k_plus_1(tmp_path):
    actions = [complete({"camera": [0, k]}) for k in range(30)]  # action k turns by k degrees
    write_recording(tmp_path / "a", numbered(31), actions)
    for k, step in enumerate(read_recording(tmp_path / "a").transitions()):
        assert step.frame[0, 0, 0] == 5 * k
        assert step.action["camera"].tolist() == [0, k]
        assert step.next_frame[0, 0, 0] == 5 * (k + 1)
    steps = list(RecordingStream(tmp_path / "a"))
    assert [step.index for step in steps] == list(range(31))
    assert steps[-1].action is None


def test_lines_that_say_how_their_frame_came_about_are_shifted_on_request(tmp_path):
    """MineWorld's clips: line k (k >= 1) led to frame k; the files hold plain environment actions."""
    write_recording(tmp_path / "clip_0", numbered(16), [complete({})] * 16)
    clip = [{**dict.fromkeys(BUTTONS, 0), "camera": [0, k]} for k in range(16)]
    (tmp_path / "clip_0.jsonl").write_text("".join(json.dumps(action) + "\n" for action in clip))
    recording = read_recording(tmp_path / "clip_0", ReadConfig(pairing="led_to_frame"))
    assert recording.problems == []
    transitions = list(recording.transitions())
    assert len(transitions) == 15
    for k, step in enumerate(transitions, start=1):
        assert step.next_frame[0, 0, 0] == 5 * k
        assert step.action["camera"][1] == k


@pytest.mark.parametrize("fps", [6, 20, 23.976, 29.97])
def test_any_frame_rate_is_stated(tmp_path, fps):
    write_recording(tmp_path / "a", numbered(5), random_actions(5), fps=fps)
    assert read_recording(tmp_path / "a").fps == pytest.approx(fps, rel=1e-3)


@pytest.mark.parametrize("shape", [(24, 32), (25, 31), (1, 2)])
def test_the_compatible_video_is_near_and_of_any_size(tmp_path, shape):
    smooth = np.stack([np.full((*shape, 3), (200, 100, 60), dtype=np.uint8) for _ in range(10)])
    write_recording(tmp_path / "a", smooth, random_actions(10), lossless=False)
    frames = read_recording(tmp_path / "a").frames
    assert frames.shape == smooth.shape
    assert np.abs(frames.astype(int) - smooth).max() <= 4


def test_frames_are_resized_and_flat_colours_kept(tmp_path):
    frames = numbered(6)
    write_recording(tmp_path / "a", frames, random_actions(6))
    small = read_recording(tmp_path / "a", ReadConfig(size=(8, 12)))
    assert small.frames.shape == (6, 8, 12, 3)
    assert small.frames[:, 3, 3, 0].tolist() == frames[:, 3, 3, 0].tolist()


def test_bilinear_halving_averages_and_without_antialiasing_samples():
    frame = np.zeros((8, 8, 3), dtype=np.uint8)
    frame[:, 4] = 255  # one bright column
    sampled = resize(frame, (2, 2), antialias=False)[0, :, 0]
    assert sampled.tolist() == [0, 0]  # its neighbours are columns 1, 2 and 5, 6
    averaged = resize(frame, (2, 2), antialias=True)[0, :, 0]
    assert averaged[0] < averaged[1] < 128


def test_lines_hold_the_recorders_fields():
    first = line_of({"attack": 1, "forward": 1, "camera": [0.3, -15]})
    second = line_of(
        {"attack": 1, "use": 1}, previous=first, state={"hotbar": 4, "yaw": 90.0}, tick=40, fps=20
    )
    assert first["mouse"]["dx"] == pytest.approx(-100)
    assert first["mouse"]["dy"] == pytest.approx(2)
    assert first["keyboard"]["keys"] == ["key.keyboard.w"]
    assert first["mouse"]["newButtons"] == []  # [0] would mean a stuck button
    assert second["mouse"]["newButtons"] == [1]
    assert (second["hotbar"], second["yaw"], second["tick"], second["milli"]) == (4, 90.0, 40, 2000)
    json.dumps([first, second], allow_nan=False)


def test_null_steps_are_marked_and_can_be_skipped(tmp_path):
    actions = [{}, {"forward": 1}, {"inventory": 1, "forward": 1}, {"camera": [0, 0.1]}, {"ESC": 1}]
    assert [action_of(line_of(action))[1] for action in actions] == [True, False, True, False, True]
    write_recording(tmp_path / "a", numbered(6), actions)
    recording = read_recording(tmp_path / "a")
    assert recording.is_null.tolist() == [True, False, True, False, True]
    kept = [step.frame[0, 0, 0] for step in recording.transitions(skip_null=True)]
    assert kept == [5, 15]


def test_the_hotbar_state_follows_the_keys_and_adds_no_press(tmp_path):
    actions = [{"hotbar.5": 1}, {"forward": 1}, {"hotbar.2": 1}, {"hotbar.9": 1}, {}]
    write_recording(tmp_path / "a", numbered(5), actions)
    recording = read_recording(tmp_path / "a")
    assert [line["hotbar"] for line in recording.lines] == [0, 4, 4, 1, 8]
    assert all(same(got, complete(want)) for got, want in zip(recording.actions, actions, strict=True))


def test_a_recording_is_never_overwritten_and_an_empty_one_leaves_no_file(tmp_path):
    with RecordingWriter(tmp_path / "empty", meta={"seed": 1}):
        pass
    assert list(tmp_path.iterdir()) == []
    write_recording(tmp_path / "a", numbered(2), [{}, {}])
    before = (tmp_path / "a.jsonl").read_bytes()
    with pytest.raises(FileExistsError, match="exists already"):
        write_recording(tmp_path / "a", numbered(2), [{}, {}])
    assert (tmp_path / "a.jsonl").read_bytes() == before


def test_a_folder_is_read_in_order(tmp_path):
    for name in ("b", "a"):
        write_recording(tmp_path / name, numbered(3), [{}] * 3)
    (tmp_path / "lonely.jsonl").write_text("{}")
    assert [stem.name for stem in find_recordings(tmp_path)] == ["a", "b"]
    assert [len(recording.frames) for recording in read_folder(tmp_path)] == [3, 3]


GOOD = np.zeros((8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("frame", "action", "state", "message"),
    [
        (GOOD[..., 0], {}, None, r"uint8 \[H, W, 3\]"),
        (GOOD.astype(np.float32), {}, None, r"uint8 \[H, W, 3\]"),
        ("frame", {}, None, r"uint8 \[H, W, 3\]"),
        (GOOD[:4], {}, None, "have one size"),
        (GOOD, {"fly": 1}, None, "unknown action key 'fly'"),
        (GOOD, {"camera": [0, float("nan")]}, None, "finite"),
        (GOOD, {"camera": [0]}, None, "shape"),
        (GOOD, {"jump": 3}, None, "0 or 1"),
        (GOOD, {}, {"colour": 1}, "unknown state field 'colour'"),
        (GOOD, {}, {"yaw": float("nan")}, "not plain JSON"),
    ],
)
def test_bad_steps_are_refused_and_what_was_written_stays(tmp_path, frame, action, state, message):
    with RecordingWriter(tmp_path / "a") as writer:
        writer.append(GOOD, {})
        with pytest.raises(ValueError, match=message) as refusal:
            writer.append(frame, action, state)
        assert "\n" not in str(refusal.value)
        writer.append(GOOD, {"forward": 1})
    recording = read_recording(tmp_path / "a")
    assert [action["forward"] for action in recording.actions] == [0, 1]
    assert len(recording.frames) == 2


@pytest.mark.parametrize(
    ("frames", "actions", "options", "message"),
    [
        (3, 1, {}, "one frame per action"),
        (1, 2, {}, "one frame per action"),
        (0, 0, {}, "one frame per action"),
        (2, 2, {"fps": 0}, "fps must lie"),
        (2, 2, {"states": [{}]}, "states must be one per action"),
    ],
)
def test_recordings_that_do_not_fit_are_refused(tmp_path, frames, actions, options, message):
    with pytest.raises(ValueError, match=message):
        write_recording(tmp_path / "a", noise(frames), [{}] * actions, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("settings", [{"size": (0, 4)}, {"size": (4,)}, {"pairing": "before"}])
def test_impossible_read_settings_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        ReadConfig(**settings)
