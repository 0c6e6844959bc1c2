"""`unified chat`: a conversation in the terminal, streamed.

An error costs one line, Ctrl-C the rest of an answer; the conversation goes on. Ctrl-D or /quit leaves.
Commands run in a context of their own, the picture that they are about. What they draw is shown to the model
with the next message.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unified.apps.answering import Content
from unified.apps.assistant import DRAWING, EDITING, Assistant, another
from unified.apps.commands.chat_screen import Answered, Screen
from unified.apps.commands.chat_turns import Turns
from unified.apps.commands.common import NO_ANSWER, assistant, check_folder, check_picture, save
from unified.apps.commands.file_names import one_path, paths
from unified.apps.commands.line_input import edit_lines, history_file
from unified.apps.commands.script import spelt
from unified.apps.commands.transcript import Transcript
from unified.apps.conversation import Event, Painted, Scale, Text, Unasked
from unified.apps.looking import LISTED, LOOK_PROMPT, LOOKING
from unified.apps.pictures import open_picture
from unified.apps.rollout import Rollout
from unified.apps.solving import NO_MAZE, is_maze
from unified.apps.terminal import protocol
from unified.command import told

MARK = "\ufeff"  # byte order mark: Windows puts one before a file that is piped in
NOT_TEXT = "this line is not UTF-8 text: nothing was said"
DRAWS = ("/look", "/draw", "/edit", "/solve", "/play")  # what our own models were trained for
HELP = """\
Type to talk. Commands:
  /image FILE ...      show pictures with your next message
  /look                list what each part of the picture shows
  /draw PROMPT         draw a picture
  /edit INSTRUCTION    change the latest picture
  /solve [FILE]        solve a maze with sketches (FILE or the latest picture)
  /play ACTION ...     step the world from the latest picture, e.g. /play forward x4 camera 0 10
  /retry               answer the last message or command again, with other samples
  /undo                take the last message or command back
  /save FILE           save the latest picture (.png) or the conversation (.txt, its pictures beside it)
  /new                 forget everything and start again
  /help, /quit"""


class Chat:
    """State of one interactive conversation. `read` gives the next line (EOFError ends), `write` prints,
    `images` is a protocol of `terminal` ("": images are saved to `folder`). `progress`: a line that is
    overwritten says how far a drawing is, for terminals."""

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
        self.model, self.read, self.max_tokens = model, read, max_tokens
        self.write = write or (lambda text: print(text, end="", flush=True))
        self.transcript = Transcript()
        self.screen = Screen(lambda text: self.write(text), folder, images, progress, self.transcript)
        self.thinks = getattr(model, "thinks", False)
        self.talk: Any = model.chat(max_tokens=max_tokens)
        self.waiting: list[np.ndarray] = []  # pictures to go with the next message
        self.latest: np.ndarray | None = None
        self.listed: Content | None = None  # what the model has listed of the latest picture
        self.world: Rollout | None = None
        self.turns = Turns(self._point, lambda: bool(self.screen.answered))

    def run(self) -> None:
        """Until the end of input."""
        while True:
            try:
                line = self.read("> ").lstrip(MARK)
                if line.strip() in ("/quit", "/exit"):
                    return
                self.handle(line)
            except EOFError:
                self.write("\n")
                return
            except KeyboardInterrupt:
                self.write("\n(Ctrl-D or /quit leaves)\n")
            except UnicodeDecodeError:
                self.write(f"! {NOT_TEXT}\n")

    def handle(self, line: str) -> None:
        """One line of input. Nothing that goes wrong here ends the conversation."""
        self._try(lambda: self._hear(line))

    def show_first(self, files: list[str]) -> None:
        """Pictures named on the command line, each on its own."""
        for name in files:
            self._try(lambda name=name: self.show([Path(name)]))  # type: ignore[misc]

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except KeyboardInterrupt:
            self.screen.clear()
            self.write("\n(stopped)\n")
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            self.screen.clear()
            self.write(f"! {told(error)}\n")

    def _hear(self, line: str) -> None:
        if not _is_text(line):
            raise ValueError(NOT_TEXT)
        line = line.strip()
        if not line:
            raise ValueError("nothing was said: write something, or /help")
        name, _, rest = line.partition(" ")
        turns = self._turns()
        if not line.startswith("/"):
            self._turn(line, lambda: self._talk(line))
        elif name in turns:
            self._check(name)
            self._turn(line, lambda: turns[name](rest.strip()))
        elif found := self._others().get(name):
            found(rest.strip())
        else:
            raise ValueError(f"unknown command {name}: /help lists them")

    def _turns(self) -> dict[str, Callable[[str], None]]:
        """Commands that add to what was said and shown."""
        return {
            "/image": lambda words: self.show(paths(words)),
            "/look": lambda _: self._look(),
            "/draw": self._draw,
            "/edit": self._edit,
            "/solve": self._solve,
            "/play": self._play,
        }

    def _others(self) -> dict[str, Callable[[str], None]]:
        return {
            "/help": lambda _: self.write(HELP + "\n"),
            "/retry": lambda _: self._retry(),
            "/undo": lambda _: self._undo(),
            "/save": self._save,
            "/new": lambda _: self._new(),
        }

    def _check(self, name: str) -> None:
        if name in DRAWS and name not in getattr(self.model, "commands", DRAWS):
            why = "" if self.model.draws else ": it reads images and does not draw"
            raise ValueError(f"{name} is not for this model{why}")

    def _turn(self, line: str, work: Callable[[], None]) -> None:
        def answer() -> None:
            self.transcript.add(f"> {line}")
            work()

        self.screen.answered = Answered()
        self.turns.run(line, answer)

    def _point(self) -> Callable[[], None]:
        talk, said, entries = self.talk, self.talk.saved(), list(self.transcript.entries)
        waiting, latest, listed = list(self.waiting), self.latest, self.listed

        def back() -> None:
            self.talk, self.waiting, self.latest, self.listed = talk, list(waiting), latest, listed
            self.talk.restore(said)
            self.world = None
            self.transcript.entries[:] = entries

        return back

    def _undo(self) -> None:
        self.write(f"(taken back: {self.turns.undo().line:.60})\n")

    def _retry(self) -> None:
        seed = self.model.seed

        def again(line: str) -> None:
            self.model.seed = self.talk.seed = seed + self.turns.attempt
            self._hear(line)

        try:
            self.turns.retry(again)
        finally:
            self.model.seed = self.talk.seed = seed

    # Words --------------------------------------------------------------------------------------------------

    def _talk(self, line: str) -> None:
        if not self.thinks:
            self._stream(self.talk.say(line, self.waiting, **self._samplers()))
            return
        if self.latest is not None and line.endswith("?"):
            answer = self._about(line, self.latest)
            if answer:
                self._tell(answer)
                return
        if not self._said(line):
            self._tell(self._without_picture(line))

    def _tell(self, answer: str) -> None:
        """An answer that was found in a context of its own."""
        self.screen.answered.text = answer
        self.screen.say(answer)

    def _about(self, line: str, picture: np.ndarray) -> str:
        """The answer to a question about the picture, whose parts are listed once; "" if it is none."""
        request, asking = self.model.request(line, picture), self.model.asking(self.max_tokens)
        if self.listed is None:
            self.screen.count("looking at the picture")
            self.listed = asking.lists([request])[0]
        self.screen.count("thinking")
        return replace(asking, listed=self.listed).looking([request])[0]

    def _said(self, line: str) -> bool:
        """Whether the model has an answer to the message in the conversation."""
        before = self.talk.saved()
        with suppress(Unasked):
            self._stream(self.talk.say(line, self.waiting, draw_unasked=False, **self._samplers()))
        if not self.screen.answered:
            self.talk.restore(before)
        return bool(self.screen.answered)

    def _without_picture(self, line: str) -> str:
        """What the model answers to the words alone, or else says of itself."""
        said = self.model.asking(self.max_tokens).blind([self.model.request(line)])[0]
        return said or self.model.introduction() or NO_ANSWER

    def _samplers(self) -> dict[str, Any]:
        """Of a retry: greedy decoding would say the same again."""
        return self.talk.warm if self.turns.attempt else {}

    # Commands -----------------------------------------------------------------------------------------------

    def show(self, files: list[Path]) -> None:
        """Open pictures and keep them for the next message."""
        if not files:
            raise ValueError("/image needs the name of a file")
        for path in files:
            opened = open_picture(path)
            image = self.model.shown(opened.image)
            height, width = opened.image.shape[:2]
            seen = f"{path}: {width} x {height} pixels, seen at {image.shape[1]} x {image.shape[0]}"
            self.transcript.add(image)
            self.screen.say(f"({opened.note + '; ' if opened.note else ''}{seen})")
            self._keep(image, show=True)
        self.screen.answered.images.append(image)  # something came of it

    def _look(self) -> None:
        events = self._aside(LOOK_PROMPT, self._latest(), vars(LOOKING))
        self.screen.count("looking at the picture")
        text = "".join(event.text for event in events if isinstance(event, Text)).strip()
        self.listed = [{"type": "text", "text": text}]
        self.screen.say(text.removeprefix(LISTED))

    def _draw(self, prompt: str) -> None:
        if not prompt:
            raise ValueError("/draw needs the words of a picture")
        self._stream(self._aside(prompt, None, vars(another(DRAWING, self.turns.attempt))), aside=True)

    def _edit(self, instruction: str) -> None:
        if not instruction:
            raise ValueError("/edit needs an instruction")
        settings = vars(another(EDITING, self.turns.attempt))
        self._stream(self._aside(instruction, self._latest(), settings), aside=True)

    def _solve(self, words: str) -> None:
        maze = self.model.picture(open_picture(one_path(words)).image) if words else self._latest()
        if not is_maze(maze):
            raise ValueError(NO_MAZE)

        def hear(event: Event) -> None:
            if isinstance(event, Painted):
                self._keep(event.image, show=True)
                self.screen.show(event.image)
                self.screen.answered.images.append(event.image)
            elif isinstance(event, Scale):
                self.screen.count(f"drawing {event.step}/{event.steps}")
            else:
                self.screen.count("thinking")

        solution = self.model.solve(maze, hear=hear)
        self.screen.say(", ".join(solution.actions) or "(no way was found)")

    def _play(self, words: str) -> None:
        if not words:
            raise ValueError("/play needs an action, e.g. /play forward x4")
        action, times = spelt(words.split())
        world, model = self.world, self.model
        if world is None:
            world = Rollout(model.model, model.processor, [[self._latest()]], seed=model.seed)
        for number in range(times):
            self.screen.count(f"step {number + 1}/{times}")
            self._keep(world.step([action])[0], show=True)
            self.world = world  # the latest picture is the world's own
            self.screen.answered.images = [self._latest()]
        self.screen.show(self._latest())

    def _save(self, name: str) -> None:
        path = one_path(name) if name else Path()
        if not path.suffix:
            raise ValueError(
                "/save needs the name of a file: .png for the picture, .txt for the conversation"
            )
        if path.suffix.lower() == ".txt":
            files = self.transcript.save(path)
            more = f" and {len(files) - 1} pictures beside it" if len(files) > 1 else ""
            self.write(f"(saved {path}{more})\n")
        else:
            save(self._latest(), check_picture(path))
            self.write(f"(saved {path})\n")

    def _new(self) -> None:
        self.talk = self.model.chat(max_tokens=self.max_tokens)
        self.waiting, self.latest, self.world, self.listed = [], None, None, None
        self.turns.all = []
        self.write("(a new conversation)\n")

    # Parts --------------------------------------------------------------------------------------------------

    def _aside(self, text: str, picture: np.ndarray | None, settings: dict[str, Any]) -> Iterator[Event]:
        """An answer in a conversation of its own."""
        talk = self.model.chat(max_tokens=self.max_tokens)
        return talk.say(text, [] if picture is None else [picture], **settings)

    def _stream(self, events: Iterator[Event], *, aside: bool = False) -> None:
        """Show an answer; what it drew `aside` is shown to the model with the next message."""
        forgotten = self.talk.forgotten
        try:
            self.screen.stream(events, thinks=self.thinks)
        finally:
            if self.screen.answered and not aside:
                self.waiting = []  # the model has seen them
            if self.screen.answered.images:
                self._keep(self.screen.answered.images[-1], show=aside)
        if self.talk.forgotten > forgotten:
            self.screen.say(
                f"(the conversation grew long: its first {self.talk.forgotten} turns are forgotten)"
            )

    def _keep(self, image: np.ndarray, *, show: bool) -> None:
        """From now on this is the latest picture. `show` it with the next message: to a model that is asked
        about one picture at a time, as the first of a new conversation."""
        self.latest, self.world, self.listed = image, None, None
        if show and self.model.several_images:
            self.waiting.append(image)
        elif show:
            self.talk, self.waiting = self.model.chat(max_tokens=self.max_tokens), [image]

    def _latest(self) -> np.ndarray:
        if self.latest is None:
            raise ValueError("there is no picture yet: /image FILE shows one, /draw has one drawn")
        return self.latest


def chat(options: argparse.Namespace) -> int:
    """`unified chat`."""
    if sys.stdin is None:  # as it is where the shell closed it (<&-)
        raise ValueError("there is no input to read: standard input is closed")
    check_folder(options.out)
    images = protocol(os.environ, sys.stdout)
    model = assistant(options)
    if options.draft is not None:
        from unified.apps.drafting import draft_with

        loading = {"device": options.device, "dtype": options.dtype}
        if note := draft_with(model, options.draft, **loading):
            print(note)
    shown = sys.stdout.isatty()
    talk = Chat(model, folder=options.out, images=images, max_tokens=options.tokens, progress=shown)
    print(f"{model.folder}: type to talk, /help for commands, Ctrl-D to leave.")
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # a bad byte costs its line, not all that was read
    if sys.stdin.isatty():
        edit_lines(history_file("chat_history") if options.history else None)
    talk.show_first(options.image or [])
    talk.run()
    return 0


def _is_text(line: str) -> bool:
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in line
