"""`unified play`: the voxel world and the dream of it, by hand."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from unified.apps.commands.common import own_assistant, show
from unified.apps.play.keys import HELP, Keyboard, Script, read_keys
from unified.apps.play.loop import Game, Screen
from unified.apps.play.terminal import TerminalScreen, check_terminal, terminal_keyboard
from unified.apps.play.window import PlayWindow, has_window
from unified.apps.play.worlds import Worlds

SIDE = 64  # pixels of the real world's frames where there is no model


def play(options: argparse.Namespace) -> int:
    """`unified play`. ValueError, before a model is loaded, for what cannot be played."""
    view, steps = _view(options), read_keys(options.script) if options.script else None
    if options.start is not None and not options.dream_only:
        raise ValueError("--start needs --dream-only: the real world starts where its seed says")
    if options.out.exists() and not options.out.is_dir():
        raise ValueError(f"{options.out} is a file: name a folder")
    if view != "none":
        print("\n".join(HELP), file=sys.stderr)  # while the model is loaded
    worlds = _worlds(options)
    with ExitStack() as stack:
        stack.callback(worlds.close)
        keyboard, screen = _opened(view, steps, stack)
        most = 0.0 if steps is not None and screen is None else options.fps
        game = Game(worlds, keyboard, screen, folder=options.out, most=most, turn=options.turn)
        game.play()
    lines = [
        f"Played {game.steps} steps, {game.rate:.1f} frames/s.",
        *(f"Wrote {name}" for name in game.files),
    ]
    data = {"steps": game.steps, "frames_per_second": round(game.rate, 2), "seed": worlds.seed}
    show(options, lines, {**data, "files": [str(name) for name in game.files]})
    return 0


def _view(options: argparse.Namespace) -> str:
    """window, terminal or none. ValueError where it cannot be had."""
    view = options.view
    if view == "auto":
        view = "none" if options.script else "window" if has_window(os.environ) else "terminal"
    if view == "none" and not options.script:
        raise ValueError("--view none has no keyboard: give --script FILE")
    if view == "terminal":
        check_terminal(os.environ, sys.stdin, sys.stdout)
    return str(view)


def _worlds(options: argparse.Namespace) -> Worlds:
    model = None if options.real_only else own_assistant(options)
    side = SIDE if model is None else model.side
    start: Any = Path(options.start) if options.start and Path(options.start).is_file() else options.start
    real = not options.dream_only
    return Worlds(model, options.size or (side, side), real=real, start=start, seed=options.seed)


def _opened(view: str, steps: Any, stack: ExitStack) -> tuple[Keyboard, Screen | None]:
    """Keyboard and screen, which the stack closes."""
    script = None if steps is None else Script(steps)
    if view == "window":
        window = stack.enter_context(closing(PlayWindow()))
        return script or window, window
    if view == "none":
        assert script is not None
        return script, None
    screen = stack.enter_context(closing(TerminalScreen(sys.stdout)))
    return script or stack.enter_context(closing(terminal_keyboard())), screen
