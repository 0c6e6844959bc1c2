"""The voxel world records in the recorder's format; what is read back plays to the same bytes."""

from pathlib import Path

import numpy as np
import pytest
from unified.envs.recordings import play, read_recording, read_track, record
from unified.envs.voxel.env import VoxelEnv
from unified.tokenizers.action import BUTTONS

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "minecraft"
PLAYED = [name for name in BUTTONS if name != "ESC"]


def make_env(**settings):
    return VoxelEnv(world_size=(32, 32, 32), **settings)


def fidget(seed):
    """Presses everything but ESC, holds some of it for a while, turns a little and a lot."""
    rng = np.random.default_rng(seed)
    holding = {}

    def policy(observation):
        nonlocal holding
        if rng.random() < 0.3:
            holding = {name: 1 for name in PLAYED if rng.random() < (0.02 if name == "inventory" else 0.15)}
        scale = rng.choice([0.0, 0.1, 5.0, 60.0], p=[0.3, 0.3, 0.35, 0.05])
        return {**holding, "camera": rng.normal(0, 1, 2).clip(-3, 3) * scale}

    return policy


@pytest.mark.parametrize("seed", range(3))
def test_a_recording_replays_to_the_same_frames(tmp_path, seed):
    assert record(make_env(), fidget(seed), tmp_path / "a", steps=300, seed=seed) == 300
    recording = read_recording(tmp_path / "a")
    assert recording.problems == []
    assert len(recording.frames) == 301
    assert recording.frames.std(axis=0).max() > 10  # something was to be seen
    np.testing.assert_array_equal(play(make_env(), recording.actions, seed=seed), recording.frames)


def test_a_recording_from_the_middle_replays_from_the_saved_state(tmp_path):
    env = make_env()
    before = [fidget(9)(None) for _ in range(1)] + [{"hotbar.6": 1}, {"forward": 1}]
    play(env, before, seed=1)
    state = env.get_state()
    record(env, fidget(5), tmp_path / "a", steps=100, options={"state": state})
    recording = read_recording(tmp_path / "a")
    replayed = play(make_env(), recording.actions, options={"state": state})
    np.testing.assert_array_equal(replayed, recording.frames)


def test_lines_state_what_the_frame_shows(tmp_path):
    actions = [{"hotbar.3": 1}, {"camera": [5, 10]}, {"inventory": 1}, {}, {}]
    record(make_env(), actions, tmp_path / "a", seed=0)
    lines = read_recording(tmp_path / "a").lines
    assert [line["hotbar"] for line in lines] == [0, 2, 2, 2, 2]
    assert [line["isGuiOpen"] for line in lines] == [False, False, False, True, True]
    turned = (lines[2]["yaw"] - lines[1]["yaw"]) % 360
    assert turned == pytest.approx(10, abs=1e-4)
    assert lines[2]["pitch"] - lines[1]["pitch"] == pytest.approx(5, abs=1e-4)
    assert all(isinstance(lines[0][name], float) for name in ("xpos", "ypos", "zpos"))


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/minecraft is absent")
@pytest.mark.parametrize("name", ["treechop", "snippy"])
def test_real_tracks_can_be_played_and_recorded(tmp_path, name):
    track = read_track(next(DATA.glob(f"{name}*.actions.jsonl")))
    actions = track.actions[:400]
    env = make_env(escape_ends=False)
    assert record(env, actions, tmp_path / "a", seed=2) == 400
    recording = read_recording(tmp_path / "a")
    frames = play(make_env(escape_ends=False), actions, seed=2)
    np.testing.assert_array_equal(recording.frames, frames)
    replayed = play(make_env(escape_ends=False), recording.actions, seed=2)
    np.testing.assert_array_equal(replayed, frames)
    assert len(np.unique(frames.reshape(len(frames), -1), axis=0)) > 50
