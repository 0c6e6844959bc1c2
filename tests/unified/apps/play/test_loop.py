"""Scripted games: both worlds take the same actions, and clips hold what was played."""

import numpy as np
import pytest
from PIL import Image
from unified.envs.recordings import play, read_recording
from unified.envs.voxel import VoxelEnv

from unified.apps.play.keys import Script, action_of
from unified.apps.play.loop import Game
from unified.apps.play.worlds import GAP


class Shown:
    """A screen that keeps what it was shown."""

    def __init__(self):
        self.pictures, self.lines = [], []

    def show(self, picture, lines):
        self.pictures.append(picture)
        self.lines.append(list(lines))


def played(worlds, steps, folder, screen=None):
    game = Game(worlds, Script(steps), screen, folder=folder)
    game.play()
    return game


def test_both_worlds_start_alike_and_take_the_same_actions(make_worlds, assistant, tmp_path):
    screen, keys = Shown(), [{"w", "right"}, {"w"}, {"j", "up"}]
    worlds = make_worlds(seed=5)
    game = played(worlds, keys, tmp_path, screen)
    assert game.steps == 3
    assert game.rate > 0
    real = play(VoxelEnv(width=32, height=32), [action_of(some) for some in keys], seed=5)
    assert [picture.shape for picture in screen.pictures] == [(32, 64 + GAP, 3)] * 4
    assert np.array_equal(np.stack([picture[:, :32] for picture in screen.pictures]), real)
    assert np.array_equal(screen.pictures[0][:, -32:], real[0])
    dream = worlds.dream
    dream.reset(seed=5, options={"frame": real[0]})
    dreamt = [dream.step(action_of(some))[0]["pov"] for some in keys]
    assert np.array_equal(np.stack([picture[:, -32:] for picture in screen.pictures[1:]]), np.stack(dreamt))
    assert "frames/s" in screen.lines[-1][0]
    assert not list(tmp_path.iterdir())


def test_a_clip_is_a_recording_of_each_world_and_a_gif(make_worlds, tmp_path):
    screen = Shown()
    game = played(make_worlds(), [{"s"}, {"r"}, {"w", "3"}, {"right"}, {"r"}, {"d"}], tmp_path, screen)
    names = ["clip_001_real.mp4", "clip_001_dream.mp4", "clip_001.gif"]
    assert [path.name for path in game.files] == names
    for name, part in (("real", slice(0, 32)), ("dream", slice(-32, None))):
        found = read_recording(tmp_path / f"clip_001_{name}")
        assert [action["forward"] for action in found.actions] == [1, 0]
        assert found.actions[1]["camera"].tolist() == [0, 10]
        expected = [
            picture[:, part] for picture in (screen.pictures[1], screen.pictures[3], screen.pictures[4])
        ]
        assert np.array_equal(found.frames, np.stack(expected))
    with Image.open(tmp_path / "clip_001.gif") as gif:
        assert (gif.n_frames, gif.info["duration"], gif.height) == (3, 50, 256)
    assert any("recording, 1 steps" in lines[0] for lines in screen.lines)


def test_clips_end_where_frames_jump_and_get_numbers_of_their_own(make_worlds, tmp_path):
    (tmp_path / "clip_001.gif").write_text("someone's")
    worlds = make_worlds(seed=1)
    game = played(worlds, [{"r"}, {"w"}, {"b"}, {"r"}, {"w"}, {"n"}, {"r"}, {"r"}, {"r"}, {"w"}], tmp_path)
    gifs = [path.name for path in game.files if path.suffix == ".gif"]
    assert gifs == ["clip_002.gif", "clip_003.gif", "clip_004.gif"]
    assert game.steps == 3
    assert worlds.seed == 2
    assert (tmp_path / "clip_001.gif").read_text() == "someone's"
    assert all(
        len(read_recording(path.with_suffix("")).frames) == 2 for path in game.files if path.suffix == ".mp4"
    )


def test_a_dream_goes_on_from_the_real_frame(make_worlds):
    worlds = make_worlds()
    for _ in range(2):
        worlds.step({"forward": 1, "camera": [0, 10]})
    assert not np.array_equal(worlds.frames["real"], worlds.frames["dream"])
    assert worlds.wake()
    assert np.array_equal(worlds.frames["real"], worlds.frames["dream"])


def test_one_world_alone(make_worlds, tmp_path):
    real, dream = make_worlds(dream=False, seed=3), make_worlds(real=False, seed=3)
    assert list(real.frames) == ["real"]
    assert list(dream.frames) == ["dream"]
    assert np.array_equal(real.frames["real"], dream.frames["dream"])
    assert not real.wake()
    grey = np.full((32, 32, 3), 90, np.uint8)
    own = make_worlds(real=False, start=grey)
    assert np.array_equal(own.frames["dream"], grey)
    assert [path.name for path in played(own, [{"r"}, {"w"}], tmp_path).files] == [
        "clip_001_dream.mp4",
        "clip_001.gif",
    ]


def test_an_interrupted_game_keeps_its_clip(make_worlds, tmp_path):
    class Interrupted(Script):
        def pressed(self):
            found = super().pressed()
            if found is None:
                raise KeyboardInterrupt
            return found

    game = Game(make_worlds(), Interrupted([{"r"}, {"w"}]), None, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        game.play()
    assert len(read_recording(tmp_path / "clip_001_dream").frames) == 2


def test_an_ended_episode_is_followed_by_another_world(make_worlds, tmp_path):
    worlds = make_worlds(dream=False)
    ends = VoxelEnv(width=32, height=32, max_steps=2)
    worlds.real = worlds.stepped["real"] = ends
    worlds.begin()
    game = played(worlds, [{"w"}] * 5, tmp_path)
    assert (game.steps, worlds.seed, worlds.steps) == (5, 2, 1)


def test_no_more_steps_a_second_than_wished(make_worlds, tmp_path):
    game = Game(make_worlds(dream=False), Script([{"w"}] * 5), None, folder=tmp_path, most=50.0)
    game.play()
    assert 0 < game.rate <= 51
