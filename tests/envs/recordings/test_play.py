"""Recording an environment and playing recordings and tracks in one."""

import gymnasium
import numpy as np
import pytest
from unified.envs.recordings import play, read_recording, record
from unified.tokenizers.action import BUTTONS, complete


class Dial(gymnasium.Env):
    """A small world that remembers everything it was told: the picture is a hash of seed and all actions."""

    observation_space = gymnasium.spaces.Dict({"pov": gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8)})

    def __init__(self, length=1000, error_at=None):
        self.length, self.error_at = length, error_at

    def reset(self, *, seed=None, options=None):
        self.steps, self.memory = 0, [seed or 0]
        return self._look(), {"hotbar": 3, "location_stats": {"yaw": np.float32(0.5)}}

    def step(self, action):
        assert set(action) == {*BUTTONS, "camera"}
        assert action["camera"].dtype == np.float32
        self.steps += 1
        words = np.array([action[name] for name in BUTTONS]).tobytes() + action["camera"].tobytes()
        self.memory = [*self.memory[-2:], hash(words) % 2**32]
        info = {"error": "timed out"} if self.steps == self.error_at else {}
        return self._look(), 0.0, self.steps >= self.length, bool(info), info

    def _look(self):
        picture = np.random.default_rng(self.memory).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        return {"pov": picture}


def random_policy(seed):
    rng = np.random.default_rng(seed)
    return lambda observation: {
        "forward": int(rng.integers(2)),
        f"hotbar.{rng.integers(1, 10)}": 1,
        "attack": int(rng.integers(2)),
        "camera": rng.normal(0, 3, 2),  # float64: the recording must hold what was really played
    }


def test_a_recorded_policy_replays_to_the_same_frames(tmp_path):
    assert record(Dial(), random_policy(0), tmp_path / "a", steps=60, seed=5) == 60
    recording = read_recording(tmp_path / "a")
    assert recording.meta == {"env": "Dial", "seed": 5}
    assert recording.lines[0]["hotbar"] == 3
    assert recording.lines[0]["yaw"] == 0.5
    assert len(recording.frames) == 61
    replayed = play(Dial(), recording.actions[1:], seed=5)
    assert not np.array_equal(replayed[1:], recording.frames[1:60])  # a wrong start shows
    np.testing.assert_array_equal(play(Dial(), recording.actions, seed=5), recording.frames)


def test_playing_stops_with_the_episode(tmp_path):
    actions = [complete({})] * 20
    assert len(play(Dial(length=7), actions)) == 8
    assert record(Dial(length=7), actions, tmp_path / "a") == 7
    assert len(read_recording(tmp_path / "a").frames) == 8
    assert record(Dial(), actions, tmp_path / "b", steps=5) == 5


def test_the_picture_of_a_time_out_is_not_recorded(tmp_path):
    assert record(Dial(error_at=4), [{}] * 9, tmp_path / "a") == 4
    recording = read_recording(tmp_path / "a")
    assert (len(recording.frames), len(recording.actions), recording.problems) == (4, 4, [])


def test_a_policy_needs_a_number_of_steps(tmp_path):
    with pytest.raises(ValueError, match="needs steps"):
        record(Dial(), random_policy(0), tmp_path / "a")


def test_a_policy_that_answers_nonsense_keeps_what_was_recorded(tmp_path):
    answers = iter([{"forward": 1}, {"forward": 1}, {"fly": 1}])
    with pytest.raises(ValueError, match="unknown action key 'fly'"):
        record(Dial(), lambda observation: next(answers), tmp_path / "a", steps=9)
    assert len(read_recording(tmp_path / "a").actions) == 2
