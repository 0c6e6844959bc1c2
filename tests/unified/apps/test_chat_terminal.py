"""The shipped model in a real terminal: turns of every kind end sensibly, and Ctrl-C loses nothing."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from unified.tasks.scenes import random_scene, render
from unified.tasks.scenes.generate import Wish

from unified.apps.inner_speech import OPENING
from unified.pretrained import SHIPPED

pexpect = pytest.importorskip("pexpect")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="pexpect needs a terminal of Unix"),
    pytest.mark.skipif(not (SHIPPED / "config.json").is_file(), reason="this copy ships no weights"),
]
ROOT = Path(__file__).resolve().parents[3]
COLUMNS, LINES = 40, 20


@pytest.fixture
def terminal(tmp_path):
    scene = random_scene(np.random.default_rng(5), "test", Wish(least=2, most=3))
    Image.fromarray(render(scene, 64)).save(tmp_path / "scene.png")
    keys, state = tmp_path / "inputrc", tmp_path / "state"
    keys.write_text("set enable-bracketed-paste off\n")
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment |= {"TERM": "xterm-256color", "UNIFIED_IMAGES": "blocks", "OMP_NUM_THREADS": "1"}
    environment |= {"INPUTRC": str(keys), "XDG_STATE_HOME": str(state), "PYTHONPATH": str(ROOT)}
    child = pexpect.spawn(
        sys.executable,
        ["-m", "unified", "chat", "--device", "cpu", "--out", "out"],
        cwd=str(tmp_path),
        env=environment,
        encoding="utf-8",
        timeout=120,
        dimensions=(24, 100),
    )
    yield child
    child.close(force=True)


def visible(text):
    """What a terminal shows of its output: lines without escapes, of what overwrites itself the last."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in plain.split("\n"))


@pytest.mark.slow
def test_fifteen_turns(terminal, tmp_path):
    def prompt():
        terminal.expect("(^|\n|\r)> $")
        return visible(terminal.before)

    def say(line):
        terminal.sendline(line)
        terminal.expect_exact(line)  # its echo; a new size may have printed the prompt again before it
        shown = prompt()
        assert not OPENING.search(shown), shown
        return shown

    assert "type to talk" in prompt()
    assert "Ask me" in say("Hello! What can you do?")
    assert "! nowhere.png: no such file" in say("/image nowhere.png")
    assert "/retry" in say("/help")
    assert "64 x 64 pixels" in say("/image scene.png")
    assert "top left a small outlined purple heart" in " ".join(say("/look").split())
    assert say("How many objects are there?").strip().isdecimal()
    assert "▀" not in say("Thanks!")
    terminal.setwinsize(LINES, COLUMNS)
    drawn = [line for line in say("/draw a large solid red circle").split("\n") if "▀" in line]
    assert 0 < len(drawn) <= LINES
    assert max(map(len, drawn)) <= COLUMNS
    assert "▀" in say("Make it blue.")
    assert "taken back: Make it blue." in say("/undo")
    terminal.sendline("/edit Make it blue.")
    terminal.expect("drawing 1/")
    terminal.sendintr()
    assert "(stopped)" in prompt()
    assert "! this is no maze" in say("/solve").replace("\n", " ")
    assert "▀" in say("/play forward")
    assert "! unknown command /nonsense" in say("/nonsense")
    assert "saved talk.txt and 3 pictures" in say("/save talk.txt")
    terminal.sendintr()
    assert "Ctrl-D" in prompt()
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 0
    assert not visible(terminal.before).strip()
    assert "/edit Make it blue." in (tmp_path / "state/unified/chat_history").read_text()
