"""Where an imagined episode may start, and what is no start."""

import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from unified.envs.recordings import write_recording
from unified.envs.world_model import WorldModelEnv
from unified.envs.world_model.starts import Starts


@pytest.fixture
def starts(assistant):
    return lambda default=None, size=(32, 32): Starts(assistant, size, default, 4)


def frames_of(starts, source, seed=0, size=(32, 32)):
    return starts(source, size).draw(np.random.default_rng(seed))


def test_pictures_of_every_kind(starts, picture, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    tensor = torch.from_numpy(picture()).permute(2, 0, 1)[None] / 127.5 - 1
    kinds = (picture(), Image.fromarray(picture()), tensor, tmp_path / "a.png", str(tmp_path / "a.png"))
    for source in (*kinds, {"image": picture()}, {"pov": picture()}):
        start = frames_of(starts, source)
        assert len(start.frames) == 1
        assert start.actions == []
        assert np.abs(start.frames[0].astype(int) - picture()).max() <= 1


def test_clips_keep_their_latest_frames(starts, picture):
    frames, actions = [picture(k) for k in range(6)], [{"forward": 1}, {}, {}, {}, {"left": 1}]
    clips = (
        (frames, actions),
        {"frames": frames, "actions": actions},
        SimpleNamespace(frames=np.stack(frames), actions=actions),
    )
    for clip in clips:
        start = frames_of(starts, clip)
        assert np.array_equal(np.stack(start.frames), np.stack(frames[2:]))
        assert start.actions == actions[2:]


def test_the_known_frames_are_read(assistant, picture):
    env = WorldModelEnv(assistant, picture())
    clip = {"frames": [picture(0), picture(1)], "actions": [{"forward": 1}]}
    for options in (clip, {"start": clip}):
        observation, info = env.reset(seed=0, options=options)
        assert np.array_equal(observation["pov"], picture(1))
        assert info == {"known_frames": 2}
        longer = env.step({"forward": 1})[4]["codes"]
        env.reset(seed=0, options={"frame": picture(1)})
        assert not np.array_equal(longer, env.step({"forward": 1})[4]["codes"])


def test_a_random_moment_of_a_recording(starts, picture, tmp_path):
    frames = [picture(k) for k in range(8)]
    write_recording(tmp_path / "play", frames, [{"forward": k % 2} for k in range(7)])
    seen = set()
    for seed in range(12):
        start = frames_of(starts, tmp_path / "play.mp4", seed)
        last = next(k for k, frame in enumerate(frames) if np.array_equal(frame, start.frames[-1]))
        first = max(0, last - 3)
        assert np.array_equal(np.stack(start.frames), np.stack(frames[first : last + 1]))
        assert [action["forward"] for action in start.actions] == [k % 2 for k in range(first, last)]
        seen.add(last)
    assert len(seen) > 3


def test_an_unreadable_line_of_a_recording_is_no_moment(starts, picture, tmp_path):
    frames = [picture(k) for k in range(4)]
    write_recording(tmp_path / "play", frames, [{"forward": 1}] * 3)
    lines = (tmp_path / "play.jsonl").read_text().splitlines()
    (tmp_path / "play.jsonl").write_text("\n".join([lines[0], "{", lines[2]]) + "\n")
    for seed in range(12):
        start = frames_of(starts, tmp_path / "play", seed)
        assert not np.array_equal(start.frames[-1], frames[1])


def test_a_state_of_the_voxel_world(starts):
    from unified.envs.voxel import VoxelEnv

    world = VoxelEnv(width=32, height=32, world_size=(32, 32, 32))
    world.reset(seed=1)
    seen = world.step({"camera": [0, 90]})[0]["pov"]
    assert np.array_equal(frames_of(starts, world.get_state()).frames[0], seen)


def test_a_random_entry_of_a_data_set_or_a_list(starts, picture):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"image": [Image.fromarray(picture(k)) for k in range(3)]})
    talk = SimpleNamespace(messages=[{"content": [{"type": "text", "text": "a"}, {"image": picture(1)}]}])
    for source in (table, [picture(k) for k in range(3)], [talk, {"messages": talk.messages}]):
        found = {frames_of(starts, source, seed).frames[0].tobytes() for seed in range(12)}
        assert len(found) == (1 if source[0] is talk else 3)
        assert found <= {picture(k).tobytes() for k in range(3)}


def test_a_function_of_random_numbers(starts, picture):
    start = frames_of(starts, lambda rng: picture(int(rng.integers(3))), 5)
    drawn = int(np.random.default_rng(5).integers(3))
    assert np.array_equal(start.frames[0], picture(drawn))


def test_words_are_drawn_by_the_model(starts, assistant):
    start = frames_of(starts, "A green hill under a blue sky.")
    assert np.array_equal(start.frames[0], assistant.draw("A green hill under a blue sky.", tries=1))


def test_words_may_be_longer_than_the_name_of_a_file(starts, assistant):
    words = "hill " * 52  # 260 bytes; 255 is the most of a name
    assert np.array_equal(frames_of(starts, words).frames[0], assistant.draw(words, tries=1))


def test_other_sizes_are_letterboxed_and_it_is_said_once(starts):
    wide = np.full((32, 64, 3), 200, np.uint8)
    maker = starts()
    with pytest.warns(UserWarning, match="32 x 64 pixels are letterboxed to 32 x 32"):
        frame = maker.draw(np.random.default_rng(0), {"frame": wide}).frames[0]
    assert (frame[:8] == 0).all()
    assert (frame[8:24] == 200).all()
    assert (frame[24:] == 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maker.draw(np.random.default_rng(0), {"frame": wide})
        larger = maker.draw(np.random.default_rng(0), {"frame": np.full((64, 64, 3), 9, np.uint8)}).frames[0]
    assert (larger == 9).all(), "of the same shape it is only resized"


def test_frames_have_any_size_that_the_model_draws(assistant, picture):
    env = WorldModelEnv(assistant, picture(), size=(16, 48))
    with pytest.warns(UserWarning, match="letterboxed"):
        assert env.reset(seed=0)[0]["pov"].shape == (16, 48, 3)
    assert env.step({})[0]["pov"].shape == (16, 48, 3)
    wide = np.zeros((32, 64, 3), np.uint8)
    assert WorldModelEnv(assistant, wide).observation_space["pov"].shape == (16, 32, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": []}, "at least one frame"),
        ({"frames": [np.zeros((32, 32, 3), np.uint8)] * 2}, "n - 1 actions"),
        ({"frame": 1, "frames": []}, "both"),
        ({"actions": []}, "got both"),
        ({"speed": 3}, "unknown option 'speed'"),
        ({"frame": "cat"}, "no such file"),
        ({"start": "cat.png"}, "no such file"),
        ({"start": "play.mp4"}, "play"),
        ({"start": " "}, "say something"),
        ({"start": ""}, "say something"),
        ({"start": "/"}, "is a folder"),
        ({"start": ".."}, "is a folder"),
        ({"start": Path("/")}, "is a folder"),
        ({"start": []}, "empty"),
        ({"start": {"colour": 1}}, "colour"),
        ({"start": {"messages": [{"content": []}]}}, "without an image"),
        ({"start": lambda rng: None}, "got None"),
        ({"start": np.zeros(5)}, "not a start"),
        ({"start": 7}, "not a start"),
        ({"frames": [np.zeros((32, 32, 3), np.uint8)], "actions": None}, "actions must be a sequence"),
        (["start"], "must be a dictionary"),
        ({"start": {"blocks": 1, "body": 2}}, "world_size"),
        ({"frames": [np.zeros((32, 32, 3), np.uint8)] * 2, "actions": [{"fly": 1}]}, "unknown"),
    ],
)
def test_what_is_no_start_is_refused_in_one_line(assistant, picture, options, message):
    env = WorldModelEnv(assistant, picture())
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message) as refusal:
        env.reset(options=options)
    assert "\n" not in str(refusal.value)
    env.step({})
