"""No process, no display and no folder is left of a game, however its environment ends."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from unified.envs.luanti import LuantiEnv, why_missing
from unified.envs.luanti import env as env_module

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_missing()), reason=why_missing() or "installed")]

SCRIPT = """
import sys
from unified.envs.luanti import LuantiEnv
env = LuantiEnv(width=32, height=32)
env.reset(seed=1)
print(env._session._keeper.pid, flush=True)
sys.stdin.read()
"""


def children(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def alive(pid):
    return Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def all_gone(pids, folder, patience=15.0):
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if not any(alive(pid) for pid in pids) and not folder.exists():
            return True
        time.sleep(0.05)
    return False


def of_session(session):
    keeper = session._keeper.pid
    return [keeper, *children(keeper)], session._folder


def play(env, steps):
    for _ in range(steps):
        env.step({})


def locks():
    return {path.name for path in Path("/tmp").glob(".X*-lock")}


def test_after_close():
    before = locks()
    env = LuantiEnv(width=32, height=32)
    env.reset(seed=1)
    pids, folder = of_session(env._session)
    assert len(pids) == 3
    assert all(alive(pid) for pid in pids)
    assert folder.exists()
    env.close()
    assert not any(alive(pid) for pid in pids)  # at once
    assert not folder.exists()
    assert locks() <= before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_after_a_kill_of_the_python_process(number):
    python = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    keeper = int(python.stdout.readline())
    pids = [keeper, *children(keeper)]
    assert len(pids) == 3
    folder = Path(os.readlink(f"/proc/{pids[-1]}/cwd"))
    assert folder.name.startswith("unified-luanti-")
    python.send_signal(number)
    python.wait(20)
    assert all_gone(pids, folder)


def test_after_an_exception_in_reset_and_in_step(monkeypatch):
    env = LuantiEnv(width=32, height=32)
    seen = []

    def fails(self, *_):
        seen.append(of_session(self))
        raise KeyboardInterrupt

    monkeypatch.setattr(env_module.Session, "begin", fails)
    with pytest.raises(KeyboardInterrupt):
        env.reset(seed=1)
    monkeypatch.undo()
    env.reset(seed=1)
    seen.append(of_session(env._session))
    os.kill(seen[-1][0][-1], signal.SIGKILL)  # the game itself dies
    with pytest.raises(RuntimeError, match="ended by itself"):
        env.step({})
    assert all(all_gone(*one) for one in seen)
    env.reset(seed=1)  # and can be started again
    seen.append(of_session(env._session))
    os.kill(seen[-1][0][0], signal.SIGKILL)  # its keeper
    with pytest.raises(RuntimeError, match="ended"):
        play(env, 3)
    env.close()
    assert all_gone(*seen[-1])


def test_a_game_that_does_not_start_is_one_clear_line(monkeypatch, tmp_path):
    broken = tmp_path / "minetest"
    broken.write_text("#!/bin/sh\necho no such video driver\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    before = set(Path(tempfile.gettempdir()).glob("unified-luanti-*"))
    env = LuantiEnv(width=32, height=32)
    with pytest.raises(RuntimeError, match=r"ended by itself \(no such video driver\)"):
        env.reset(seed=0)
    assert set(Path(tempfile.gettempdir()).glob("unified-luanti-*")) <= before
