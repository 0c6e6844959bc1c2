"""Clips of the voxel world and of recordings, their three forms and their scores."""

import numpy as np
import pytest
from unified.envs.recordings import read_recording
from unified.envs.voxel import VoxelEnv
from unified.tasks.registry import make
from unified.tasks.sample import SPLITS
from unified.tasks.worlds.clips import WorldConfig, terrain_split, watch
from unified.tasks.worlds.scoring import psnr, score_actions, score_frames, ssim

SMALL = {"size": 32, "frames": 4, "world_size": (24, 24, 24), "start": 10}


def items(sample, role):
    return [item for message in sample.messages if message["role"] == role for item in message["content"]]


def kinds(sample):
    return [[item["type"] for item in message["content"]] for message in sample.messages]


def test_the_three_forms_ask_about_the_same_clip():
    frames, actions, play = (
        make(name, **SMALL).sample(7) for name in ("world_frames", "world_actions", "world_play")
    )
    assert kinds(frames)[:4] == [["image", "action"], ["image"], ["action"], ["image"]]
    assert kinds(actions)[:4] == [["image", "image"], ["action"], ["image"], ["action"]]
    assert kinds(play)[:4] == [["text", "image"], ["action"], ["image"], ["action"]]
    assert len(items(frames, "assistant")) == len(items(actions, "assistant")) == SMALL["frames"] - 1
    first = items(frames, "user")[0]["image"]
    assert first.shape == (32, 32, 3)
    np.testing.assert_array_equal(items(actions, "user")[0]["image"], first)
    assert [item["action"]["forward"] for item in items(play, "assistant")] == [
        item["action"]["forward"] for item in items(frames, "user") if item["type"] == "action"
    ]


def test_the_frames_follow_from_the_actions():
    """Playing the actions again in the same world shows the same frames."""
    config = WorldConfig(**{**SMALL, "start": 0})
    for index in range(4):
        clip = watch(config, index, "train")
        env = VoxelEnv(config.voxel(clip.source["player"]))
        options = {"terrain_seed": clip.source["terrain_seed"]}
        first, _ = env.reset(seed=clip.source["episode_seed"], options=options)
        seen = [first["pov"], *(env.step(action)[0]["pov"] for action in clip.actions)]
        np.testing.assert_array_equal(np.stack(seen), clip.frames)


def test_terrains_and_players_are_split():
    for split in SPLITS:
        samples = [make("world_play", **SMALL).sample(index, split) for index in range(6)]
        assert {terrain_split(sample.meta["terrain_seed"]) for sample in samples} == {split}
        players = {sample.meta["player"] for sample in samples}
        assert ("follow_path" in players) == (split == "compositional")
    shares = [terrain_split(seed) for seed in range(4000)]
    assert {split: round(shares.count(split) / 4000, 1) for split in SPLITS} == {
        "train": 0.8,
        "validation": pytest.approx(0.05, abs=0.06),
        "test": pytest.approx(0.05, abs=0.06),
        "compositional": 0.1,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 1}, "frames must be a whole number of 2 to 512"),
        ({"size": 4}, "size must be a side or"),
        ({"size": [64, "x"]}, "size must be a side or"),
        ({"players": ["pilot"]}, "task must be one of"),
        ({"players": []}, "need at least one name"),
        ({"players": ["follow_path"]}, "unseen must stay unseen"),
        ({"start": -1}, "start must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"world_size": [8, 8, 8]}, "world_size must be"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        make("world_frames", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["world_frames", "world_actions"])
@pytest.mark.parametrize("index", ["3", None, 1.5, True])
def test_a_bad_index_is_refused(name, index):
    with pytest.raises(ValueError, match="index must be a whole number"):
        make(name).sample(index)


def test_frame_scores_fall_with_noise():
    rng = np.random.default_rng(0)
    truth = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(2)]
    assert score_frames(truth, truth) == {"psnr": 100.0, "ssim": pytest.approx(1.0)}
    off = np.clip(truth[1].astype(int) + 16, 0, 255).astype(np.uint8)
    scores = score_frames([off], truth)  # the last frame alone
    assert scores["psnr"] == pytest.approx(psnr(off, truth[1]))
    assert 20 < scores["psnr"] < 40
    assert ssim(255 - truth[0], truth[0]) < 0.2
    black, white = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
    assert psnr(black, white) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([np.zeros((8, 8, 3), np.uint8)] * 3, "has 3 frames, the clip asks for 2"),
        ([np.zeros((8, 9, 3), np.uint8)], r"shape \[8, 8, 3\], got \[8, 9, 3\]"),
        ([np.zeros((8, 8, 3))], "uint8"),
        (["picture"], "got str"),
    ],
)
def test_bad_frames_are_refused(answer, message):
    with pytest.raises(ValueError, match=message):
        score_frames(answer, [np.zeros((8, 8, 3), np.uint8)] * 2)


def test_action_scores():
    truth = [{"forward": 1, "camera": [0.0, 10.0]}, {"attack": 1, "camera": [0.0, 0.0]}]
    perfect = score_actions(truth, truth)
    assert (perfect["exact"], perfect["buttons"], perfect["camera_error"]) == (1.0, 1.0, 0.0)
    idle = score_actions([{}, {}], truth)
    assert idle["exact"] == 0.0
    assert idle["button.forward"] == idle["button.attack"] == 0.5
    assert idle["buttons"] == pytest.approx(1 - 2 / 46)
    assert idle["camera_error"] == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ({"camera": [float("nan"), 0.0]}, "camera must be finite"),
        ({"camera": [0.0, 0.0, 0.0]}, "camera must have shape"),
        ({"fly": 1}, "unknown action key 'fly'"),
        ({"jump": 2}, "button 'jump' must be 0 or 1"),
    ],
)
def test_bad_actions_are_refused(action, message):
    task = make("world_actions", **SMALL)
    with pytest.raises(ValueError, match=message):
        task.score(task.sample(0), [{"type": "action", "action": action}])


def test_recordings_go_the_same_way(recordings_folder):
    task = make("world_recordings", folder=str(recordings_folder), frames=5, size=32, form="play")
    sample = task.sample(2)
    source = read_recording(recordings_folder / sample.meta["recording"])
    start = sample.meta["start"]
    shown = [item["image"] for item in items(sample, "user") if item["type"] == "image"]
    np.testing.assert_array_equal(np.stack(shown), source.frames[start : start + 4])
    told = [item["action"] for item in items(sample, "assistant")]
    for mine, theirs in zip(told, source.actions[start : start + 4], strict=True):
        assert {key: mine[key] for key in mine if key != "camera"} == {
            key: theirs[key] for key in theirs if key != "camera"
        }
        np.testing.assert_allclose(mine["camera"], theirs["camera"], atol=1e-5)


def test_every_window_of_a_recording_comes_up(recordings_folder):
    task = make(
        "world_recordings", folder=str(recordings_folder), frames=6, size=32, test=0.0, validation=0.0
    )
    windows = [task.sample(index).meta for index in range(12 * 4)]
    assert {meta["recording"] for meta in windows} == {f"play-{seed}" for seed in range(12)}
    assert len({(meta["recording"], meta["start"]) for meta in windows}) >= 12 * 3


def test_folders_without_recordings_are_refused(tmp_path, recordings_folder):
    with pytest.raises(ValueError, match="no recording"):
        make("world_recordings", folder=str(tmp_path))
    with pytest.raises(ValueError, match="not a folder"):
        make("world_recordings", folder=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="unknown form 'films'"):
        make("world_recordings", folder=str(recordings_folder), form="films")
    task = make("world_recordings", folder=str(recordings_folder))
    with pytest.raises(ValueError, match="no recording falls into the split 'compositional'"):
        task.sample(0, "compositional")


def test_a_recording_too_short_for_a_clip_is_refused(recordings_folder):
    task = make("world_recordings", folder=str(recordings_folder), frames=100, size=32)
    with pytest.raises(ValueError, match="no recording has 100 good frames in a row"):
        task.sample(0)
