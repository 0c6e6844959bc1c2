"""What lies in a game's folder before it starts: its settings, a world with our mod, and two FIFOs."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from unified.envs.luanti.config import LuantiConfig
from unified.envs.luanti.installed import Installed

MOD = Path(__file__).parent / "mod"
STRIP = 4  # rows above and below `pov`: the upper ones hold the marker
NARROWEST = 256  # pixels of what the client draws, so that nine slots fit: smaller frames are averages
LEAST_SCALE = 0.5  # of slots, the client's own limit
PANEL_SCALE = 220  # pixels of a window in which the inventory of scale 1 takes three quarters
FULL_SCALE = 900  # pixels of a window whose slots are as the game's artists drew them
DRAWING: dict[str, object] = {
    **{"video_driver": "opengl", "screen_dpi": 96, "font_size": 8, "hud_hotbar_max_width": 1.0},
    **{"fps_max": 200, "fps_max_unfocused": 200, "vsync": "false", "pause_on_lost_focus": "false"},
    **{"window_maximized": "false", "autosave_screensize": "false", "show_debug": "false"},
    **{"enable_sound": "false", "mute_sound": "true"},
}
HELD: dict[str, object] = {
    # What would move by the wall clock in the client, and then in the server.
    **{"enable_clouds": "false", "enable_particles": "false", "arm_inertia": "false", "camera_smoothing": 0},
    **{"view_bobbing_amount": 0, "fall_bobbing_amount": 0, "client_unload_unused_data_timeout": 10**6},
    **{"client_mapblock_limit": -1, "time_speed": 0, "liquid_update": 10**6, "nodetimer_interval": 10**6},
    **{"abm_interval": 10**6, "server_unload_unused_data_timeout": 10**6, "server_map_save_interval": 10**6},
}
PLAYING: dict[str, object] = {
    **{"free_move": "true", "noclip": "true", "default_privs": "interact, fly, noclip"},  # our mod moves
    **{"enable_damage": "false", "creative_mode": "false", "give_initial_stuff": "false"},
    **{"server_side_occlusion_culling": "false", "server_announce": "false"},
    **{"enable_client_modding": "false", "enable_remote_media_server": "false"},
    **{"secure.enable_security": "true", "enable_local_map_saving": "false"},
    **{"debug_log_level": "warning"},
}
MAP: dict[str, object] = {
    **{"mg_name": "v7", "num_emerge_threads": 1},
    "mapgen_limit": 48,  # one chunk of 80 x 80 x 80 nodes with its border
    "mg_flags": "caves, dungeons, light, decorations, biomes, ores",
    "mgv7_spflags": "nomountains, noridges, nofloatlands, caverns",
    "mgv7_np_terrain_base": "8, 14, (120, 120, 120), 82341, 4, 0.5, 2.0",
    "mgv7_np_terrain_alt": "7, 10, (100, 100, 100), 5934, 4, 0.5, 2.0",
}
"""Noises of the map generator, as offset, scale, spread, seed, octaves, persistence, lacunarity: hills by
default are as wide as the whole map, which would often be all sea or all rock."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A `pov` of width x height pixels is drawn `times` as large, between two strips."""

    width: int
    height: int

    @property
    def times(self) -> int:
        return max(1, -(-NARROWEST // self.width))

    @property
    def window(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width * self.times, self.height * self.times + 2 * STRIP


def write_files(folder: Path, seed: int, config: LuantiConfig) -> None:
    """The files of a world with this seed of the map generator."""
    world = folder / "world"
    shutil.copytree(MOD, world / "worldmods" / "unified_env")
    backends = ("player_backend", "auth_backend", "mod_storage_backend")
    lines = ["gameid = minetest", "backend = dummy", *(f"{name} = sqlite3" for name in backends)]
    _write(world / "world.mt", lines)
    _write(folder / "minetest.conf", [f"{name} = {value}" for name, value in _settings(seed, config).items()])
    (folder / "home").mkdir()
    for name in ("commands", "answers"):
        os.mkfifo(world / name, 0o600)


def display_command(installed: Installed, picture: Picture, folder: Path) -> list[str]:
    """Xvfb with a screen of the window's size, its pixels in a file of the folder."""
    width, height = picture.window
    screen = ["-screen", "0", f"{width}x{height}x24", "-dpi", "96", "-fbdir", str(folder)]
    return [installed.display, *screen, "-nolisten", "tcp", "-noreset", "-nocursor"]


def game_command(installed: Installed, folder: Path) -> list[str]:
    """The client with its own server, without menus."""
    files = ["--config", str(folder / "minetest.conf"), "--logfile", str(folder / "log.txt")]
    return [installed.game, *files, "--world", str(folder / "world"), "--go"]


def game_environment(folder: Path) -> dict[str, str]:
    """Software rendering on one thread, and nothing of the user's own game."""
    home = str(folder / "home")
    return {
        **{"HOME": home, "MINETEST_USER_PATH": home, "LUANTI_USER_PATH": home, "XDG_CACHE_HOME": home},
        **{"LIBGL_ALWAYS_SOFTWARE": "1", "LP_NUM_THREADS": "1", "MESA_SHADER_CACHE_DISABLE": "true"},
        **{"LC_ALL": "C", "SDL_AUDIODRIVER": "dummy"},
    }


def _settings(seed: int, config: LuantiConfig) -> dict[str, object]:
    picture = Picture(width=config.width, height=config.height)
    width, height = picture.window
    scale = round(max(LEAST_SCALE, width / FULL_SCALE), 3)
    panel_scale = round(max(LEAST_SCALE, width / PANEL_SCALE), 3)
    return {
        **{"screen_w": width, "screen_h": height, "hud_scaling": scale, "gui_scaling": panel_scale},
        **{"viewing_range": config.view_distance, "fov": config.field_of_view, "fixed_map_seed": seed},
        **DRAWING,
        **HELD,
        **PLAYING,
        **MAP,
    }


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
