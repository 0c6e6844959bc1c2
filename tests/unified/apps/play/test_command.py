"""`unified play` as it is typed: scripts, a real pseudo-terminal, a window without a display, refusals."""

import json
import os
import re
import select
import sys
import threading
import time

import numpy as np
import pytest
from unified.envs.recordings import read_recording

from unified.apps.cli import main
from unified.apps.play.keys import HELP
from unified.apps.play.terminal import ENTER, RESTORE, check_terminal, fitted
from unified.apps.play.window import PlayWindow, has_window
from unified.pretrained import save_model

SMALL = ("--real-only", "--size", "16x24")


@pytest.fixture
def keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "keys.txt").write_text(text)
        return ["--script", "keys.txt"]

    return write


def test_a_script_plays_both_worlds(keys, tmp_path, capsys, assistant):
    save_model(tmp_path / "model", assistant.model, assistant.processor)
    options = ["--model", "model", "--device", "cpu", "--size", "32x32", "--seed", "4", "--json"]
    assert main(["play", *options, *keys("r\nw right x3\n")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["steps"], told["seed"], len(told["files"])) == (3, 4, 3)
    assert told["frames_per_second"] > 0
    real, dream = (read_recording(tmp_path / "play_out" / f"clip_001_{name}") for name in ("real", "dream"))
    assert np.array_equal(real.frames[0], dream.frames[0])
    assert not np.array_equal(real.frames[3], dream.frames[3])


def test_the_real_world_needs_no_model(keys, tmp_path, capsys):
    assert main(["play", *SMALL, "--model", "none_there", "--out", "clips", *keys("r\nw x2\n")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Played 2 steps, ")
    assert lines[1:] == [f"Wrote clips/clip_001{end}" for end in ("_real.mp4", ".gif")]
    assert read_recording(tmp_path / "clips" / "clip_001_real").frames.shape == (3, 16, 24, 3)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "no terminal to play in"),
        (["--view", "none"], "--view none has no keyboard"),
        (["--start", "a lake", "--script", "SCRIPT"], "--start needs --dream-only"),
        (["--script", "missing.txt"], "missing.txt: no such file"),
        (["--script", "SCRIPT", "--out", "keys.txt"], "is a file: name a folder"),
        (["--script", "SCRIPT", "--size", "4x4"], "whole number of 8 to 4096"),
        (["--fps", "0"], "from 0.1 to 1000"),
        (["--dream-only"], "not allowed with"),
    ],
)
def test_what_cannot_be_played_is_one_line(keys, monkeypatch, capsys, options, complaint):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    script = keys("w")[1]
    try:
        status = main(["play", "--real-only", *[script if word == "SCRIPT" else word for word in options]])
    except SystemExit as stop:
        status = stop.code
    found = capsys.readouterr()
    assert status == 2
    assert complaint in found.err
    assert len(found.err.splitlines()) == 1


def test_a_terminal_without_colours_or_half_blocks_is_refused():
    class Terminal:
        encoding = "utf-8"

        def isatty(self):
            return True

    check_terminal({"TERM": "xterm", "COLORTERM": "truecolor"}, Terminal(), Terminal())
    with pytest.raises(ValueError, match="24-bit colours: set COLORTERM"):
        check_terminal({"TERM": "vt100"}, Terminal(), Terminal())
    Terminal.encoding = "ascii"
    with pytest.raises(ValueError, match="UTF-8"):
        check_terminal({"TERM": "xterm", "COLORTERM": "truecolor"}, Terminal(), Terminal())


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50), (20, 10), (5, 2)])
def test_a_picture_fits_the_terminal(columns, rows):
    from unified.apps.terminal import blocks

    picture = np.random.default_rng(0).integers(0, 256, (64, 130, 3), dtype=np.uint8)
    lines = blocks(*fitted(picture, columns, rows)).splitlines()
    assert len(lines) <= rows
    assert max(line.count("▀") for line in lines) <= columns


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals are POSIX's")
def test_played_in_a_pseudo_terminal(tmp_path, monkeypatch):
    """Each key is typed once the screen has answered the one before."""
    import termios

    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "COLUMNS": "90",
        "LINES": "30",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("UNIFIED_IMAGES", "TMUX"):
        monkeypatch.delenv(name, raising=False)
    one_more = r"(?s)recording, (\d+) steps.*recording, (?!\1 )\d+ steps"
    waits = [
        (re.escape(HELP[1]), "r"),
        (one_more, "w"),
        (one_more, "\x1b[C"),
        (one_more, "r"),
        (r"wrote play_out/clip_001\.gif", "q"),
        (re.escape(RESTORE), ""),
    ]
    seen: list[str] = []

    def type_keys():
        late = time.monotonic() + 40
        for awaited, typed in waits:
            text = ""
            while not re.search(awaited, text):
                if time.monotonic() > late or not select.select([master], [], [], 10)[0]:
                    os.close(master)  # ends the game, and the test fails
                    return
                text += os.read(master, 65536).decode(errors="ignore")
            seen.append(text)
            os.write(master, typed.encode())

    typist = threading.Thread(target=type_keys, daemon=True)
    typist.start()
    with os.fdopen(os.dup(slave), "r") as stdin, os.fdopen(os.dup(slave), "w", encoding="utf-8") as stdout:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)
        status = main(["play", *SMALL, "--view", "terminal", "--fps", "50"])
        typist.join(timeout=20)
        assert not typist.is_alive()
    assert status == 0
    assert ENTER in seen[0]
    assert "\x1b[48;2;" in seen[0]
    assert termios.tcgetattr(slave) == before
    found = read_recording(tmp_path / "play_out" / "clip_001_real")
    assert sum(action["forward"] for action in found.actions) >= 1
    assert sum(bool(action["camera"][1]) for action in found.actions) == 1
    os.close(master)
    os.close(slave)


def test_a_window_reads_keys_and_shows_frames(monkeypatch):
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    window = PlayWindow()
    picture = np.zeros((16, 34, 3), np.uint8)
    picture[:, :16] = (10, 200, 30)
    window.show(picture, ("12.0 frames/s", "help"))
    screen = pygame.display.get_surface()
    assert screen.get_size() == (34 * 30, 480)
    assert screen.get_at((5, 5))[:3] == (10, 200, 30)
    assert "12.0 frames/s" in pygame.display.get_caption()[0]
    for key in (pygame.K_w, pygame.K_LSHIFT, pygame.K_RIGHT, pygame.K_e):
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))
    assert window.pressed() == {"w", "c", "right", "e"}
    pygame.event.post(pygame.event.Event(pygame.KEYUP, key=pygame.K_w))
    assert window.pressed() == {"c", "right"}
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert window.pressed() is None
    window.close()


def test_a_window_is_chosen_where_there_is_a_display():
    pytest.importorskip("pygame")
    if sys.platform.startswith("linux"):
        assert has_window({"DISPLAY": ":0"})
        assert not has_window({})


def test_the_window_plays_a_script(keys, monkeypatch, capsys):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert main(["play", *SMALL, "--view", "window", "--fps", "200", *keys("w x3\n")]) == 0
    assert "Played 3 steps" in capsys.readouterr().out
