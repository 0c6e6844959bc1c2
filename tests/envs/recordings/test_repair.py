"""The recorder's quirks, one by one."""

import copy

import numpy as np
import pytest
from unified.envs.recordings import (
    ReadConfig,
    action_of,
    drop_stuck_attack,
    line_of,
    press_wheel_hotbar,
    read_recording,
    repeat_hotbar_changes,
    scale_gui_mouse,
    write_recording,
)
from unified.envs.recordings.cursor import SIZE, blend_cursor
from unified.tokenizers.action import HOTBAR


def clicks(*steps):
    """Lines with (buttons, newButtons)."""
    lines = [line_of({}) for _ in steps]
    for line, (buttons, new) in zip(lines, steps, strict=True):
        line["mouse"].update(buttons=buttons, newButtons=new)
    return lines


def attacks(lines):
    return [action_of(line)[0]["attack"] for line in lines]


def slots(lines):
    """Which number keys are pressed on each line."""
    return [[int(n[-1]) for n in HOTBAR if action_of(line)[0][n]] for line in lines]


def held(*states):
    """Lines with (hotbar, pressed number or None)."""
    return [line_of({f"hotbar.{key}": 1} if key else {}, state={"hotbar": slot}) for slot, key in states]


def test_a_stuck_attack_is_dropped_until_the_first_real_press():
    lines = clicks(([0], [0]), ([0], []), ([0, 1], [1]), ([0], [0]), ([0], []), ([], []))
    before = copy.deepcopy(lines)
    assert attacks(drop_stuck_attack(lines)) == [0, 0, 0, 1, 1, 0]
    assert action_of(drop_stuck_attack(lines)[2])[0]["use"] == 1
    assert lines == before


@pytest.mark.parametrize("first", [([0], []), ([0, 1], [0, 1]), ([], [])])
def test_an_attack_that_is_not_stuck_stays(first):
    lines = clicks(first, ([0], [0]))
    assert attacks(drop_stuck_attack(lines)) == attacks(lines)


def test_a_wheel_selection_becomes_a_key():
    lines = held((0, None), (0, None), (3, None), (3, None), (1, None))
    assert slots(press_wheel_hotbar(lines)) == [[], [], [4], [], [2]]
    assert slots(press_wheel_hotbar(held((2, None)))) == [[3]]  # the tracker starts at slot 0


def test_a_selection_by_key_is_not_pressed_twice_but_for_the_published_rule():
    lines = held((0, 5), (4, None), (4, 9), (8, 1), (0, None))
    assert slots(press_wheel_hotbar(lines)) == [[5], [], [9], [1], []]
    assert slots(repeat_hotbar_changes(lines)) == [[5], [5], [9], [1, 9], [1]]


def test_a_slot_chosen_by_picking_a_block_is_not_pressed():
    lines = held((0, None), (6, None), (6, None))
    lines[0]["mouse"]["buttons"] = [2]
    assert slots(press_wheel_hotbar(lines)) == [[], [], []]


def test_lines_without_the_optional_fields_pass_through():
    bare = {"mouse": {"dx": 1, "dy": 2, "buttons": [0]}, "keyboard": {"keys": []}}
    lines = [bare, bare]
    for repair in (drop_stuck_attack, press_wheel_hotbar, repeat_hotbar_changes):
        assert repair(lines) == lines
        assert repair([]) == []
    assert scale_gui_mouse(lines, "6.8") == lines


@pytest.mark.parametrize(
    ("version", "scale"), [("5.7", 0.5), ("5.8", 0.5), ("6.7", 2), ("6.8", 2), ("6.9", 2), ("7.6", 1)]
)
def test_some_versions_scale_the_mouse_in_menus_only(version, scale):
    lines = [line_of({"camera": [3, 6]}, state={"isGuiOpen": opened}) for opened in (False, True)]
    outside, inside = (action_of(line)[0]["camera"] for line in scale_gui_mouse(lines, version))
    np.testing.assert_allclose(outside, [3, 6])
    np.testing.assert_allclose(inside, [3 * scale, 6 * scale])


def test_the_cursor_is_blended_where_a_menu_is_open(tmp_path):
    frames = np.full((3, 360, 640, 3), 100, dtype=np.uint8)
    states = [{"isGuiOpen": opened} for opened in (False, True)]
    write_recording(tmp_path / "a", frames, [{}, {}], states=states)  # closing frame: the third
    recording = read_recording(tmp_path / "a", ReadConfig())
    changed = (recording.frames != 100).any(axis=-1)
    assert not changed[0].any()
    assert not changed[2].any()
    rows, columns = np.nonzero(changed[1])
    assert (rows.min(), columns.min()) == (180, 320)  # the tip: window position (640, 360) halved
    assert rows.max() < 180 + SIZE
    assert columns.max() < 320 + SIZE
    without = read_recording(tmp_path / "a", ReadConfig(draw_cursor=False))
    assert (without.frames == 100).all()


def test_a_frame_that_shows_its_cursor_gets_no_second_one(tmp_path):
    frames = np.full((1, 64, 64, 3), 100, dtype=np.uint8)
    write_recording(tmp_path / "a", frames, [{}], states=[{"isGuiOpen": True, "cursorInFrame": True}])
    assert (read_recording(tmp_path / "a").frames == 100).all()


@pytest.mark.parametrize(("x", "y"), [(0, 0), (1279, 719), (-20, 300), (5000, 0), (0, -40), (1270, 10)])
def test_the_cursor_is_cut_at_the_borders(x, y):
    frame = np.full((360, 640, 3), 100, dtype=np.uint8)
    large = np.pad(frame, ((50, 50), (50, 50), (0, 0)), constant_values=100)
    blended = blend_cursor(frame, x, y)
    assert blended.shape == frame.shape
    assert (frame == 100).all()
    left, top = int(x * 0.5), int(y * 0.5)
    if -SIZE < left < 640 and -SIZE < top < 360:  # the same drawing, seen through the frame's window
        whole = blend_cursor(large, 0, 0)[:SIZE, :SIZE]
        large[50 + top : 50 + top + SIZE, 50 + left : 50 + left + SIZE] = whole
    np.testing.assert_array_equal(blended, large[50:-50, 50:-50])
