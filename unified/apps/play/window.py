"""Play in a window: pygame, where it is installed, shows frames and reads the keyboard."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Collection, Mapping

import numpy as np

from unified.apps.play.keys import HELD, KNOWN, TURN_OF

HEIGHT = 480  # pixels of the picture, at least where frames are smaller
NAME_OF = {"left shift": "c", "right shift": "c", "left ctrl": "v", "right ctrl": "v"}
"""Minecraft's own keys, beside the letters that a terminal can read."""


def has_window(environment: Mapping[str, str]) -> bool:
    """Whether there is a display here, and pygame to use it."""
    if importlib.util.find_spec("pygame") is None:
        return False
    if sys.platform.startswith(("win", "darwin")):
        return "SSH_CONNECTION" not in environment
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


class PlayWindow:
    """Keyboard and screen of a window. ImportError without pygame, RuntimeError (pygame's) without a
    display."""

    def __init__(self, title: str = "unified play") -> None:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ImportError:
            raise ImportError("a window needs pygame: pip install pygame") from None
        self._pygame, self._title = pygame, title
        pygame.display.init()
        self._screen: pygame.Surface | None = None
        self._down: set[str] = set()

    def show(self, picture: np.ndarray, lines: Collection[str]) -> None:
        """A picture uint8 [H, W, 3], enlarged by a whole factor; the first line becomes the title."""
        pygame = self._pygame
        times = max(1, HEIGHT // picture.shape[0])
        size = (picture.shape[1] * times, picture.shape[0] * times)
        if self._screen is None or self._screen.get_size() != size:
            self._screen = pygame.display.set_mode(size)
        surface = pygame.surfarray.make_surface(picture.swapaxes(0, 1))
        pygame.transform.scale(surface, size, self._screen)
        pygame.display.set_caption(" - ".join([self._title, *list(lines)[:1]]))
        pygame.display.flip()

    def pressed(self) -> Collection[str] | None:
        """The keys that are down, and those pressed since the last call; None once the window is closed."""
        pygame, once = self._pygame, set()
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                return None
            if event.type not in (pygame.KEYDOWN, pygame.KEYUP):
                continue
            name = pygame.key.name(event.key)
            name = NAME_OF.get(name, name)
            if name in KNOWN and event.type == pygame.KEYDOWN:
                once.add(name)
                self._down.add(name)
            elif event.type == pygame.KEYUP:
                self._down.discard(name)
        return once | {name for name in self._down if name in HELD or name in TURN_OF}

    def close(self) -> None:
        self._pygame.display.quit()
