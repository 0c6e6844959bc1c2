"""Recordings of play: one `.mp4` and one `.jsonl` of the same name, as VPT's and BASALT's contractors made
them.

Alignment, everywhere in this package: line k is the state seen in frame k and the action taken *on* frame k;
its effect is seen in frame k + 1. A video may hold one frame more than there are lines (the closing frame).
The voxel world and MineRL are recorded in the same format (`record`), so there is one way to read data.
"""

from .lines import action_of, line_of
from .play import play, record, state_of
from .reader import (
    ReadConfig,
    Recording,
    RecordingStream,
    Step,
    Transition,
    find_recordings,
    read_folder,
    read_recording,
)
from .repair import REPAIRS, drop_stuck_attack, press_wheel_hotbar, repeat_hotbar_changes, scale_gui_mouse
from .tracks import Track, read_track
from .writer import RecordingWriter, found_part, write_recording

__all__ = [
    "REPAIRS",
    "ReadConfig",
    "Recording",
    "RecordingStream",
    "RecordingWriter",
    "Step",
    "Track",
    "Transition",
    "action_of",
    "drop_stuck_attack",
    "find_recordings",
    "found_part",
    "line_of",
    "play",
    "press_wheel_hotbar",
    "read_folder",
    "read_recording",
    "read_track",
    "record",
    "repeat_hotbar_changes",
    "scale_gui_mouse",
    "state_of",
    "write_recording",
]
