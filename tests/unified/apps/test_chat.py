"""The state of a chat: what was listed is thought over as long as its picture is the latest."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unified.apps.assistant import Assistant
from unified.apps.commands.chat import Chat
from unified.apps.conversation import Painted, Scale, Text
from unified.apps.demo import random_model
from unified.apps.looking import THINK_PROMPT
from unified.pretrained import save_model


@pytest.fixture
def chat(tmp_path):
    assistant = Assistant(*random_model(), side=32)
    made = Chat(assistant, folder=tmp_path, write=lambda text: None, max_tokens=3)
    made._keep(np.zeros((32, 32, 3), dtype=np.uint8))
    return made


def asked(chat, line):
    """What the model was asked in the turn that `line` made."""
    before = len(chat.talk.ids)
    chat.handle(line)
    return chat.model.processor.stream.text.decode([i for i in chat.talk.ids[before:] if i < 256])


def test_questions_are_thought_over_after_a_look_until_there_is_another_picture(chat):
    assert THINK_PROMPT not in asked(chat, "How many?")
    chat.handle("/look")
    assert f"How many? {THINK_PROMPT}" in asked(chat, "How many?")
    assert THINK_PROMPT not in asked(chat, "Thank you.")
    chat.handle("/draw a red circle")
    assert THINK_PROMPT not in asked(chat, "How many?")


@pytest.mark.parametrize("progress", [True, False])
def test_a_terminal_sees_steps_counted_under_the_words_and_a_pipe_sees_none(chat, progress):
    image, written = np.zeros((32, 32, 3), dtype=np.uint8), []
    chat.write, chat.progress = written.append, progress
    chat._stream(event for event in [Text("One."), Scale(1, 2, None), Scale(2, 2, None), Painted(image)])
    out = "".join(written)
    assert out.startswith("One.\n\r(drawing 1/2)\r(drawing 2/2)\r" if progress else "One.\n(picture: ")


@pytest.mark.parametrize("name", ["", " talk", " ~"])
def test_a_file_to_save_to_says_what_is_saved(said, name):
    assert "! /save needs the name of a file: .png for the picture, .txt" in said(f"/save{name}")


def test_a_new_conversation_has_listed_nothing(chat):
    chat.handle("/look")
    chat.handle("/new")
    assert THINK_PROMPT not in asked(chat, "How many?")


@pytest.fixture
def said(tmp_path):
    """A chat that is given lines, and what it wrote."""

    def talk(*lines):
        written, rest = [], iter(lines)

        def read(_):
            line = next(rest, None)
            if line is None:
                raise EOFError
            if isinstance(line, Exception):
                raise line
            return line

        assistant = Assistant(*random_model(), side=32)
        made = Chat(assistant, folder=tmp_path, read=read, write=written.append, max_tokens=3)
        made.run()
        return "".join(written)

    return talk


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a.png", "~/a.png"),
        ("two words.png", "~/'two words.png'"),
        ("two words.png", '"~/two words.png"'),
        ("two words.png", "~/two\\ words.png"),
        ("two words.png", "~/two words.png"),
        ("it's.png", "~/it's.png"),
        ("a#b.png", "~/a#b.png"),
    ],
)
def test_files_are_named_as_in_a_shell(name, line, said, tmp_path, monkeypatch):
    if os.name == "nt" and "\\" in line:
        pytest.skip("backslashes are those of a path here")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    Image.new("RGB", (32, 32), "red").save(tmp_path / name)
    assert f"{name}: 32 x 32 pixels" in said(f"/image {line}")
    target = line.replace(".png", ".new.png")
    saved = said(f"/image {line}", f"/save {target}")
    assert "! " not in saved
    assert (tmp_path / name.replace(".png", ".new.png")).is_file()


def test_a_maze_may_be_named_so_too(said, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (32, 32), "white").save(tmp_path / "a maze.png")
    assert "! " not in said("/solve '~/a maze.png'")


def test_several_files_and_what_is_no_name(said, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a.png", "b c.png"):
        Image.new("RGB", (32, 32), "red").save(tmp_path / name)
    assert said("/image ~/a.png ~/'b c.png'").count("32 x 32 pixels") == 2
    assert "! a quote or a backslash" in said("/image 'a.png")
    assert "! " in said("/image ~nobody-of-this-name/a.png")
    assert "! /image needs the name of a file" in said("/image")


@pytest.mark.parametrize("line", ["/image C:\\Users\\a.png", '/image "C:\\Users\\a.png"'])
def test_a_windows_path_is_named_as_it_was_written(line, said):
    assert "! C:\\Users\\a.png: no such file" in said(line)


def test_what_cannot_be_shown_or_saved_says_why(said):
    assert "pictures are not downloaded" in said("/image https://example.org/a.png")
    assert "~nobody9/a.png: no such file" in said("/image ~nobody9/a.png")


def test_a_line_that_is_no_text_costs_one_line(said):
    bad = UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid continuation byte")
    for line in ("caf\udce9", "half \ud83d", "nul\0", bad):
        written = said(line, "/help")
        assert written.count("! this line is not UTF-8 text") == 1
        assert "/solve [FILE]" in written


def test_a_byte_order_mark_before_the_first_line_is_no_part_of_it(said):
    assert "/solve [FILE]" in said("\ufeff/help")


def test_bytes_of_another_encoding_on_the_input_cost_their_line(tmp_path):
    save_model(tmp_path / "tiny", *random_model())
    command = [
        sys.executable,
        "-m",
        "unified.cli",
        "chat",
        "--model",
        "tiny",
        "--tokens",
        "3",
        "--device",
        "cpu",
    ]
    root = str(Path(__file__).parents[3])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict", "PYTHONPATH": paths}
    lines = b"caf\xe9\r\n/help\r\n/quit\r\n"
    done = subprocess.run(
        command, input=lines, cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"! this line is not UTF-8 text" in done.stdout
    assert b"/solve" in done.stdout
