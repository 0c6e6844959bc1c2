"""Where the game and the virtual display are, or how to install them."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

NAMES = ("luanti", "minetest")  # the game changed its name in 2024
FOLDERS = "/usr/games:/usr/local/games"  # Debian's place of games, which PATH may lack
SHARES = ("/usr/share/games", "/usr/share", "/usr/local/share")
GAME = "minetest_game"
INSTALL = (
    "Luanti (formerly Minetest) with its game 'minetest_game' and Xvfb are needed, on Linux; Debian 12: "
    "apt-get install --no-install-recommends minetest xvfb libgl1-mesa-dri"
)


@dataclass(frozen=True, kw_only=True)
class Installed:
    """The programs, and the folder of the game's content."""

    game: str
    display: str
    content: Path


def installed() -> Installed:
    """What is installed. ImportError with the packages to install where something is missing."""
    path = os.pathsep.join((os.environ.get("PATH", ""), FOLDERS))
    game = next((found for name in NAMES if (found := shutil.which(name, path=path))), None)
    display = shutil.which("Xvfb", path=path)
    content = next((place for place in _contents() if (place / "game.conf").is_file()), None)
    if not sys.platform.startswith("linux"):
        raise ImportError(f"{INSTALL} (this is {sys.platform})")
    if game is None or display is None or content is None:
        parts = {"luanti or minetest": game, "Xvfb": display, GAME: content}
        missing = ", ".join(name for name, found in parts.items() if found is None)
        raise ImportError(f"{INSTALL} (not found: {missing})")
    return Installed(game=game, display=display, content=content)


def why_missing() -> str:
    """The sentence of `installed`, or nothing where all is there."""
    try:
        installed()
    except ImportError as error:
        return str(error)
    return ""


def _contents() -> list[Path]:
    shared = [Path(share) / name / "games" / GAME for share in SHARES for name in NAMES]
    return [*shared, *(Path.home() / f".{name}" / "games" / GAME for name in NAMES)]
