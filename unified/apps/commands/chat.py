"""`unified chat`: a conversation in the terminal, streamed.

An error costs one line, Ctrl-C the rest of an answer; the conversation goes on. Ctrl-D or /quit leaves.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unified.apps.assistant import DRAWING, EDITING, MAZE_PROMPT, SOLVING, Assistant
from unified.apps.commands.common import assistant, check_folder, check_picture, save
from unified.apps.commands.script import spelt
from unified.apps.conversation import Event, Painted, Scale, Text
from unified.apps.looking import LOOK_PROMPT, LOOKING, THINK_PROMPT
from unified.apps.pictures import open_picture
from unified.apps.rollout import Rollout
from unified.apps.terminal import protocol, render
from unified.command import told
from unified.text_files import at_home

MARK = "\ufeff"  # byte order mark: Windows puts one before a file that is piped in
NOT_TEXT = "this line is not UTF-8 text: nothing was said"
DRAWS = ("/look", "/draw", "/edit", "/solve", "/play")  # what our own models were trained for
DRIVE = re.compile(r"""["']?[A-Za-z]:\\""")
HELP = """\
Type to talk. Commands:
  /image FILE ...      show pictures with your next message
  /look                list what each part of the picture shows; later questions are answered from the list
  /draw PROMPT         have a picture drawn
  /edit INSTRUCTION    have the latest picture changed
  /solve [FILE]        have a maze solved with sketches (FILE or the latest picture)
  /play ACTION ...     step the world from the latest picture, e.g. /play forward x4 camera 0 10
  /save FILE           save the latest picture (.png) or the conversation (.txt)
  /new                 forget everything and start again
  /help, /quit"""


class Chat:
    """State of one interactive conversation. `read` gives the next line (EOFError ends), `write` prints,
    `images` is a protocol of `terminal` ("": images are saved to `folder`). `progress` counts the steps of an
    image in a line that is overwritten: for terminals."""

    def __init__(
        self,
        model: Assistant,
        *,
        folder: Path,
        read: Callable[[str], str] = input,
        write: Callable[[str], Any] | None = None,
        images: str = "",
        max_tokens: int = 512,
        progress: bool = True,
    ) -> None:
        self.model, self.folder, self.read, self.images = model, folder, read, images
        self.progress = progress
        self.write = write or (lambda text: print(text, end="", flush=True))
        self.max_tokens = max_tokens
        self.talk = model.chat(max_tokens=max_tokens)
        self.waiting: list[np.ndarray] = []  # pictures to go with the next message
        self.latest: np.ndarray | None = None
        self.listed = False  # whether the model has listed the parts of the latest image
        self.world: Rollout | None = None
        self.saved = 0
        self.lines: list[str] = []

    def run(self) -> None:
        """Until the end of input."""
        while True:
            try:
                line = self.read("> ").lstrip(MARK)
            except EOFError:
                self.write("\n")
                return
            except KeyboardInterrupt:
                self.write("\n(Ctrl-D or /quit leaves)\n")
                continue
            except UnicodeDecodeError:
                self.write(f"! {NOT_TEXT}\n")
                continue
            if line.strip() in ("/quit", "/exit"):
                return
            self.handle(line)

    def handle(self, line: str) -> None:
        """One line of input. Nothing that goes wrong here ends the conversation."""
        self._try(lambda: self._hear(line))

    def show_first(self, paths: list[str]) -> None:
        """Pictures named on the command line, each on its own."""
        for path in paths:
            self._try(lambda path=path: self.show([Path(path)]))  # type: ignore[misc]

    def _hear(self, line: str) -> None:
        if not _is_text(line):
            raise ValueError(NOT_TEXT)
        self.lines.append(f"> {line}")
        self._dispatch(line.strip())

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except KeyboardInterrupt:
            self.write("\n(stopped)\n")
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            self.write(f"! {told(error)}\n")

    def show(self, paths: list[Path]) -> None:
        """Open pictures and keep them for the next message."""
        if not paths:
            raise ValueError("/image needs the name of a file")
        for path in paths:
            opened = open_picture(path)
            image = self.model.shown(opened.image)
            self.waiting.append(image)
            self._keep(image)
            height, width = opened.image.shape[:2]
            seen = f"{path}: {width} x {height} pixels, seen at {image.shape[1]} x {image.shape[0]}"
            self._print(f"({opened.note + '; ' if opened.note else ''}{seen})\n")

    # Commands -----------------------------------------------------------------------------------------------

    def _dispatch(self, line: str) -> None:
        if not line.startswith("/"):
            if not line:
                raise ValueError("nothing was said: write something, or /help")
            thinks = self.listed and line.endswith("?")
            self._say(f"{line} {THINK_PROMPT}" if thinks else line)
            return
        name, _, rest = line.partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: self._print(HELP + "\n"),
            "/image": lambda words: self.show(paths(words)),
            "/look": lambda _: self._look(),
            "/draw": self._draw,
            "/edit": self._edit,
            "/solve": self._solve,
            "/play": self._play,
            "/save": self._save,
            "/new": self._new,
        }
        if name not in commands:
            raise ValueError(f"unknown command {name}: /help lists them")
        if name in DRAWS and name not in getattr(self.model, "commands", DRAWS):
            why = "" if self.model.draws else ": it reads images and does not draw"
            raise ValueError(f"{name} is not for this model{why}")
        commands[name](rest.strip())

    def _say(self, text: str, **changes: Any) -> None:
        events = self.talk.say(text, self.waiting, **changes)
        self.waiting = []
        self._stream(events)

    def _look(self) -> None:
        self._latest()
        self._say(LOOK_PROMPT, **vars(LOOKING))
        self.listed = True

    def _draw(self, prompt: str) -> None:
        if not prompt:
            raise ValueError("/draw needs the words of a picture")
        self._say(prompt, **vars(DRAWING))

    def _edit(self, instruction: str) -> None:
        if not instruction:
            raise ValueError("/edit needs an instruction")
        self._latest()
        self._say(instruction, **vars(EDITING))

    def _solve(self, words: str) -> None:
        maze = self.model.picture(open_picture(one_path(words)).image) if words else self._latest()
        self.waiting = [maze]
        self._say(MAZE_PROMPT, **vars(SOLVING))

    def _play(self, words: str) -> None:
        if not words:
            raise ValueError("/play needs an action, e.g. /play forward x4")
        action, times = spelt(words.split())
        if self.world is None:
            start = self._latest()
            model = self.model
            self.world = Rollout(model.model, model.processor, [[start]], seed=model.seed)
        world = self.world
        for _ in range(times):
            self._keep(world.step([action])[0])
            self.world = world  # the latest picture is the world's own
        self.waiting = [self._latest()]  # the conversation has not seen it yet
        self._present(self._latest())

    def _save(self, name: str) -> None:
        path = one_path(name) if name else Path()
        if not path.suffix:
            raise ValueError(
                "/save needs the name of a file: .png for the picture, .txt for the conversation"
            )
        if path.suffix.lower() == ".txt":
            path.write_text("\n".join(self.lines) + "\n", encoding="utf-8")
        else:
            save(self._latest(), check_picture(path))
        self._print(f"(saved {path})\n")

    def _new(self, _: str) -> None:
        self.talk = self.model.chat(max_tokens=self.max_tokens)
        self.waiting, self.latest, self.world, self.listed = [], None, None, False
        self._print("(a new conversation)\n")

    # Showing ------------------------------------------------------------------------------------------------

    def _stream(self, events: Iterator[Event]) -> None:
        forgotten, said = self.talk.forgotten, ""
        before: Event | None = None
        try:
            for event in events:
                if isinstance(event, Text):
                    said += event.text
                    self.write(event.text)
                elif isinstance(event, Scale):
                    self.write("\n" if isinstance(before, Text) else "")  # words stay, counts do not
                    self._count(f"(drawing {event.step}/{event.steps})")
                elif isinstance(event, Painted):
                    self._count(" " * 20 + "\r")
                    self._keep(event.image)
                    self._present(event.image)
                before = event
        finally:
            events.close()  # type: ignore[attr-defined]
            self.lines.append(said)
        self.write("\n")
        if self.talk.forgotten > forgotten:
            self._print(
                f"(the conversation grew long: its first {self.talk.forgotten} turns are forgotten)\n"
            )

    def _count(self, words: str) -> None:
        """Overwrite the line that says how far a drawing is."""
        if self.progress:
            self.write(f"\r{words}")

    def _present(self, image: np.ndarray) -> None:
        if self.images:
            columns = min(64, shutil.get_terminal_size().columns)
            self.write("\n" + render(image, self.images, columns))
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.saved += 1
        path = self.folder / f"picture_{self.saved:03}.png"
        save(image, path)
        self._print(f"(picture: {path})\n")

    def _keep(self, image: np.ndarray) -> None:
        self.latest, self.world, self.listed = image, None, False

    def _latest(self) -> np.ndarray:
        if self.latest is None:
            raise ValueError("there is no picture yet: /image FILE shows one, /draw has one drawn")
        return self.latest

    def _print(self, text: str) -> None:
        self.lines.append(text.rstrip())
        self.write(text)


def chat(options: argparse.Namespace) -> int:
    """`unified chat`."""
    if sys.stdin is None:  # as it is where the shell closed it (<&-)
        raise ValueError("there is no input to read: standard input is closed")
    check_folder(options.out)
    images = protocol(os.environ, sys.stdout)
    model = assistant(options)
    shown = sys.stdout.isatty()
    talk = Chat(model, folder=options.out, images=images, max_tokens=options.tokens, progress=shown)
    print(f"{model.folder}: type to talk, /help for commands, Ctrl-D to leave.")
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # a bad byte costs its line, not all that was read
    talk.show_first(options.image or [])
    talk.run()
    return 0


def paths(words: str) -> list[Path]:
    """The files that a line names as in a shell: quoted, with backslashes before blanks, `~` for the home
    folder; or one file whose name stands there as it is, blanks included. On Windows, and behind a drive such
    as C:, backslashes are those of paths."""
    whole = at_home(words)
    if words and whole.is_file():
        return [whole]
    lexer = shlex.shlex(words, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    lexer.escape = "" if os.name == "nt" or DRIVE.match(words) else "\\"
    try:
        names = list(lexer)
    except ValueError:
        raise ValueError(f"a quote or a backslash in {words!r:.80} is not followed by its end") from None
    return [at_home(name) for name in names]


def one_path(words: str) -> Path:
    """The same for one file; a name with blanks or an apostrophe needs no quotes."""
    try:
        (found,) = paths(words)
    except ValueError:  # several names, or a quote that does not end
        return at_home(words)
    return found


def _is_text(line: str) -> bool:
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in line
