"""The state of a chat: contexts, what is taken back, what is shown and saved."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unified.apps import asking
from unified.apps.assistant import Assistant
from unified.apps.commands import chat as command
from unified.apps.commands.chat import Chat
from unified.apps.conversation import Painted, Scale, Text
from unified.apps.demo import random_model
from unified.pretrained import save_model


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """A random model never ends a list or the words before an image."""
    monkeypatch.setattr(asking, "LOOKING", replace(asking.LOOKING, max_tokens=4))
    for name in ("LOOKING", "DRAWING", "EDITING"):
        monkeypatch.setattr(command, name, replace(getattr(command, name), max_tokens=4))


@pytest.fixture
def chat(tmp_path):
    assistant = Assistant(*random_model(), side=32)
    written = []
    made = Chat(assistant, folder=tmp_path, write=written.append, max_tokens=3)
    made.written = written
    made._keep(np.zeros((32, 32, 3), dtype=np.uint8), show=True)
    return made


@pytest.fixture
def opened(chat, monkeypatch):
    """The conversations that the chat opens from now on."""
    made, chatting = [], chat.model.chat

    def opens(**options):
        made.append(chatting(**options))
        return made[-1]

    monkeypatch.setattr(chat.model, "chat", opens)
    return made


def images_in(talk):
    return sum(item["type"] == "image" for message in talk.messages()[:1] for item in message["content"])


def test_commands_see_the_picture_that_they_are_about_and_no_history(chat, opened):
    chat.talk = chat.model.chat(max_tokens=3)
    list(chat.talk.say("Hello.", chat.waiting, allow_images=False))
    opened.clear()
    chat.handle("/draw a red circle")
    drawing = opened[0]
    assert [message["role"] for message in drawing.messages()] == ["user", "assistant"]
    assert images_in(drawing) == 0
    drawn = chat.latest
    chat.handle("/edit Make it blue.")
    (edit,) = [talk for talk in opened[1:] if talk.ids[1:]]
    assert images_in(edit) == 1
    assert np.array_equal(
        chat.model.processor.picture(edit.messages()[0]["content"][0]),
        edit.messages()[0]["content"][0]["image"],
    )
    assert not np.array_equal(chat.latest, drawn)
    assert len(chat.waiting) == 1  # the next message shows the edited picture
    assert np.array_equal(chat.waiting[0], chat.latest)


def test_a_list_is_made_once_for_a_picture(chat):
    listed = chat.listed = [{"type": "text", "text": "Seen: nothing."}]
    chat.handle("How many?")
    assert chat.listed is listed
    chat.handle("/draw a red circle")
    assert chat.listed is None


@pytest.mark.parametrize("progress", [True, False])
def test_a_terminal_sees_steps_counted_under_the_words_and_a_pipe_sees_none(chat, progress):
    image = np.zeros((32, 32, 3), dtype=np.uint8)
    events = [Text("One."), Scale(1, 2, None), Scale(2, 2, None), Painted(image)]
    chat.written.clear()
    chat.screen.progress = progress
    chat.screen.stream((event for event in events), thinks=False)
    out = "".join(chat.written)
    assert out.startswith("One.\n\r(drawing 1/2)\r(drawing 2/2)\r" if progress else "One.\n(picture: ")
    assert chat.transcript.entries[0] == "One."


def test_what_the_model_says_to_itself_is_progress_and_no_answer(chat):
    image = np.zeros((32, 32, 3), dtype=np.uint8)
    events = [
        Text("Seen: top left nothing. 1 of 1: a star in"),
        Text(" the centre."),
        Scale(1, 1, None),
        Painted(image),
    ]
    chat.written.clear()
    chat.screen.stream((event for event in events), thinks=True)
    assert "".join(chat.written).startswith("\r(drawing 1/1: 1 of 1: a star in the centre)\r")
    assert chat.screen.answered.text == ""


def test_undo_takes_back_and_retry_samples_anew(chat, tmp_path):
    before, ids = chat.latest, list(chat.talk.ids)
    chat.handle("/draw a red circle")
    first = chat.latest
    chat.handle("/retry")
    assert not np.array_equal(chat.latest, first)
    assert len(chat.transcript.pictures) == 1
    assert chat.model.seed == 0
    chat.handle("/undo")
    assert np.array_equal(chat.latest, before)
    assert (chat.talk.ids, chat.transcript.entries) == (ids, [])
    chat.handle("/undo")
    assert chat.written[-1].startswith("! there is nothing to take back")


def test_ctrl_c_before_an_answer_loses_nothing(chat, monkeypatch):
    chat.handle("/draw a red circle")
    waiting, count = list(chat.waiting), len(chat.turns.all)

    def stopped(*_, **__):
        raise KeyboardInterrupt

    for line in ("Hello.", "/look", "/edit Make it blue.", "/retry", "/play forward"):
        with monkeypatch.context() as patched:
            patched.setattr("unified.decoding.session.Session.feed", stopped)
            chat.handle(line)
        assert chat.written[-1] == "\n(stopped)\n"
        assert len(chat.turns.all) == count
        assert len(chat.transcript.pictures) == 1
        assert np.array_equal(chat.waiting[0], waiting[0])


def test_a_saved_conversation_has_words_and_pictures_in_order(chat, tmp_path):
    for entry in ("> draw", np.full((8, 8, 3), 1, np.uint8), "words", np.full((8, 8, 3), 2, np.uint8), " "):
        chat.transcript.add(entry)
    chat.handle(f"/save {tmp_path / 'talk.txt'}")
    lines = ["> draw", "(picture 1: talk_1.png)", "words", "(picture 2: talk_2.png)"]
    assert (tmp_path / "talk.txt").read_text().splitlines() == lines
    assert [Image.open(tmp_path / f"talk_{n}.png").getpixel((0, 0))[0] for n in (1, 2)] == [1, 2]


def test_what_is_no_maze_is_one_line(chat):
    chat.written.clear()
    chat.handle("/solve")
    assert "".join(chat.written).startswith("! this is no maze")
    assert len(chat.written) == 1


@pytest.mark.parametrize("name", ["", " talk", " ~"])
def test_a_file_to_save_to_says_what_is_saved(said, name):
    assert "! /save needs the name of a file: .png for the picture, .txt" in said(f"/save{name}")


def test_a_new_conversation_has_listed_nothing(chat):
    chat.listed = [{"type": "text", "text": "Seen: nothing."}]
    chat.handle("/new")
    assert (chat.listed, chat.latest, chat.waiting) == (None, None, [])


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
    assert "! this is no maze" in said("/solve '~/a maze.png'")


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
