"""What of the game needs no game: settings, its sentence where it is missing, files, players, the command."""

import json
import sys

import gymnasium
import numpy as np
import pytest
from unified.envs import record as record_module
from unified.envs.luanti import LuantiConfig, LuantiEnv, installed, why_missing
from unified.envs.luanti import installed as exported
from unified.envs.luanti.files import MOD, Picture, write_files
from unified.envs.luanti.players import PLAYERS, make_player
from unified.envs.record import main
from unified.envs.recordings import find_recordings, read_recording
from unified.tokenizers.environment_action import complete, stacked

PLACES = sys.modules[exported.__module__]


def test_where_it_is_missing_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(PLACES, "FOLDERS", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ImportError, match=r"apt-get install .*minetest xvfb.* \(not found: .*Xvfb"):
        installed()
    with pytest.raises(ImportError, match="apt-get install"):
        gymnasium.make("unified/Luanti-v0")
    assert len(why_missing().splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 7}, "width must be a whole number of 8 to 2048, got 7"),
        ({"height": 64.0}, "height must be a whole number"),
        ({"max_steps": True}, "max_steps must be a whole number"),
        ({"field_of_view": float("nan")}, "field_of_view must be a finite number"),
        ({"start_items": ["default:dirt"]}, "start_items must map"),
        ({"start_items": {"default:dirt 5": 1}}, "an item's name is a word"),
        ({"start_items": {"default:dirt": -1}}, "must be a count"),
        ({"wide": 3}, "of Luanti: it has width"),
        ({"render_mode": "human"}, "render_mode must be"),
    ],
)
def test_bad_settings_are_one_line(settings, message):
    with pytest.raises(ValueError, match=message):
        LuantiEnv(**settings)


@pytest.mark.parametrize(
    ("width", "height", "times"), [(8, 8, 32), (64, 64, 4), (255, 100, 2), (640, 360, 1)]
)
def test_small_pictures_are_drawn_larger(width, height, times):
    picture = Picture(width=width, height=height)
    assert picture.times == times
    assert picture.window == (width * times, height * times + 8)


def test_a_world_has_its_seed_its_settings_and_our_mod(tmp_path):
    write_files(tmp_path, 7, LuantiConfig(width=320, height=200, field_of_view=80, view_distance=50))
    settings = dict(line.split(" = ") for line in (tmp_path / "minetest.conf").read_text().splitlines())
    assert settings["fixed_map_seed"] == "7"
    assert (settings["screen_w"], settings["screen_h"]) == ("320", "208")
    assert (settings["fov"], settings["viewing_range"]) == ("80", "50")
    mod = tmp_path / "world" / "worldmods" / "unified_env"
    assert {path.name for path in mod.iterdir()} == {path.name for path in MOD.iterdir()}
    assert (tmp_path / "world" / "commands").is_fifo()


@pytest.mark.parametrize("name", PLAYERS)
def test_players_press_keys_that_there_are_the_same_for_a_seed(name):
    place = {"xpos": 0.0, "ypos": 0.0, "zpos": 0.0, "yaw": 0.0, "pitch": 5.0}
    told = {"location_stats": place, "isGuiOpen": 0, "in_water": False, "looking_at": "default:dirt"}

    def played(seed):
        player = make_player(name, seed)
        actions = [complete(player.act({**told, "collided": k % 50 > 35})) for k in range(400)]
        return stacked(actions)

    buttons, cameras = played(1)
    pressed = {key for key, values in buttons.items() if values.any()}
    assert {"forward", "jump", "attack", "use", "sprint"} <= pressed
    assert any(key.startswith("hotbar") for key in pressed)
    assert np.ptp(cameras[:, 1]) > 5
    again, other = played(1), played(2)
    assert all(np.array_equal(buttons[key], again[0][key]) for key in buttons)
    assert np.array_equal(cameras, again[1])
    assert not np.array_equal(cameras, other[1])
    with pytest.raises(ValueError, match="no player 'fly' of Luanti; there are walk, random"):
        make_player("fly", 0)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["unified/Nothing-v0"], "no players for 'unified/Nothing-v0': choose from unified/Luanti-v0"),
        (["unified/Voxel-v0", "--players", "walk"], "no player 'walk' in unified/Voxel-v0"),
        (["unified/Voxel-v0", "--count", "0"], "--count must be at least 1"),
        (["unified/Voxel-v0", "--size", "4x64"], "width must be a whole number"),
    ],
)
def test_bad_input_of_the_command_is_one_line(more, message, tmp_path, capsys):
    assert main([*more, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_the_command_records_the_voxel_world_and_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch):
    words = ["unified/Voxel-v0", "--players", "roam", "probe", "--out", str(tmp_path), "--size", "32x24"]
    words += ["--steps", "4", "--seed", "5"]
    assert main([*words, "--count", "1"]) == 0
    whole = (tmp_path / "roam-00005.jsonl").read_bytes()

    def stops(*_, **__):
        (tmp_path / ".partprobe-00006.mp4").write_bytes(b"half")
        raise OSError(28, "No space left on device", "probe.mp4")

    with monkeypatch.context() as patched:
        patched.setattr("unified.envs.recordings.record", stops)
        assert main([*words, "--count", "2"]) == 2
    assert [stem.name for stem in find_recordings(tmp_path)] == ["roam-00005"]
    assert main([*words, "--count", "2"]) == 0
    assert "there already" in capsys.readouterr().out
    assert [stem.name for stem in find_recordings(tmp_path)] == ["probe-00006", "roam-00005"]
    assert (tmp_path / "roam-00005.jsonl").read_bytes() == whole
    found = read_recording(tmp_path / "probe-00006")
    assert found.frames.shape == (5, 24, 32, 3)
    meta = json.loads((tmp_path / "probe-00006.meta.json").read_text())
    assert meta == {"env": "unified/Voxel-v0", "seed": 6}
    assert record_module.cast_of("unified/VoxelReach-v0").names == ("reach",)
