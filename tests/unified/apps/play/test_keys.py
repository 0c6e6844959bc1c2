"""What keys mean, in which spelling they arrive, and for how long they are down."""

import sys
import types

import pytest
from unified.tokenizers.action import BUTTONS, complete

from unified.apps.play.keys import BUTTON_OF, COMMANDS, HELD, KNOWN, TURN_OF, Script, action_of, read_keys
from unified.apps.play.terminal import Held, WindowsKeyboard, names_of


def test_every_button_but_escape_has_one_key_and_no_command_is_one():
    assert sorted(BUTTON_OF.values()) == sorted(set(BUTTONS) - {"ESC"})
    assert not COMMANDS & (BUTTON_OF.keys() | TURN_OF.keys())
    assert HELD < KNOWN


def test_keys_become_an_action_and_opposite_arrows_cancel():
    action = complete(action_of({"w", "space", "right", "up", "r"}, turn=7.5))
    assert {name for name in BUTTONS if action[name]} == {"forward", "jump"}
    assert action["camera"].tolist() == [-7.5, 7.5]
    assert action_of({"left", "right"})["camera"] == [0, 0]


def test_a_script_is_read_line_by_line(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text("# to the tree\nw space x2\n\nwait\nr\n")
    steps = read_keys(path)
    assert steps == [{"w", "space"}, {"w", "space"}, set(), {"r"}]
    script = Script(steps)
    assert [script.pressed() for _ in range(5)] == [*steps, None]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("w\nforward\n", r"keys\.txt:2: no key 'forward'"),
        ("w x0", "repeated 1 to 10000 times"),
        ("# nothing\n", "no keys in it"),
    ],
)
def test_a_bad_script_names_its_line(tmp_path, text, complaint):
    (tmp_path / "keys.txt").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_keys(tmp_path / "keys.txt")
    with pytest.raises(ValueError, match="no such file"):
        read_keys(tmp_path / "other.txt")


def test_letters_and_escape_sequences_are_named():
    assert names_of("wW \x1b[A\x1bOD\x1b[1;2C5?é\x1b[15~") == ["w", "w", "space", "up", "left", "right", "5"]
    assert names_of("a\x1b") == ["a", "escape"]


def test_keys_of_walking_stay_down_for_a_while_and_turns_do_not():
    now = [0.0]
    held = Held(0.3, clock=lambda: now[0])
    assert held.after(["w", "right", "e"]) == {"w", "right", "e"}
    now[0] = 0.2
    assert held.after(["space"]) == {"w", "space"}
    now[0] = 0.4
    assert held.after([]) == {"space"}
    now[0] = 0.6
    assert held.after([]) == set()


def test_a_windows_console_sends_arrows_as_two_letters(monkeypatch):
    typed = list("w\xe0M\x00;\x1b")
    console = types.SimpleNamespace(kbhit=lambda: bool(typed), getwch=lambda: typed.pop(0))
    monkeypatch.setitem(sys.modules, "msvcrt", console)
    monkeypatch.setattr("os.system", lambda command: 0)
    keyboard = WindowsKeyboard()
    assert keyboard.pressed() == {"w", "right", "escape"}
    typed.append("\x03")
    with pytest.raises(KeyboardInterrupt):
        keyboard.pressed()
