"""A case of the suite, and the ways in which a user asks: the verbs and the chat, with default settings.

Channels: "verb" is `Assistant.ask`, `draw`, `edit` or `solve`; "chat" a plain line of `unified chat`, after
/image where there is a picture; "command" /draw, /edit or /solve there; "long history" the command, or the
plain line where there is none, after the turns of `HISTORY`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from unified.eval.suites.ood.phrasings.mazes import HISTORY

from unified.apps.assistant import Assistant
from unified.apps.commands.chat import Chat

VERBS = ("ask", "draw", "edit", "solve")
CHANNELS = ("verb", "chat", "command", "long history")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back: all text, and the pictures drawn."""

    text: str = ""
    pictures: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Case:
    """One request. `kind` is the row of a table, `right` judges the reply, `truth` says what was wanted.
    `earlier`: turns of the user before it, in the chat. `sketch`: whether the last picture is a right one,
    for requests whose pictures are sketches."""

    kind: str
    words: str
    verb: str
    channel: str
    right: Callable[[Reply], bool]
    truth: str = ""
    picture: np.ndarray | None = None
    earlier: tuple[str, ...] = ()
    sketch: Callable[[np.ndarray], bool] | None = None


def reply_to(assistant: Assistant, case: Case, folder: Path) -> Reply:
    """The reply to a case; the chat keeps its pictures in `folder`."""
    return _by_verb(assistant, case) if case.channel == "verb" else _by_chat(assistant, case, folder)


def _by_verb(assistant: Assistant, case: Case) -> Reply:
    if case.verb == "draw":
        return Reply(pictures=(assistant.draw(case.words),))
    if case.verb == "ask":
        return Reply(text=assistant.ask(case.words, case.picture))
    assert case.picture is not None, f"{case.verb} is of a picture"
    if case.verb == "edit":
        return Reply(pictures=(assistant.edit(case.picture, case.words),))
    options = {"prompt": case.words} if case.words else {}
    solution = assistant.solve(case.picture, **options)  # type: ignore[arg-type]
    return Reply(text=solution.text, pictures=tuple(solution.sketches))


def _by_chat(assistant: Assistant, case: Case, folder: Path) -> Reply:
    talk = Talk(assistant, folder)
    for line in HISTORY if case.channel == "long history" else ():
        talk.say(line)
    if case.picture is not None:
        talk.show(case.picture)
    for line in case.earlier:
        talk.say(line)
    named = case.channel != "chat" and case.verb != "ask"
    words = "" if case.verb == "solve" else case.words
    return talk.say(f"/{case.verb} {words}".strip() if named else case.words)


class Talk:
    """A conversation in the chat, typed line by line. Each reply is what the chat wrote and saved for it."""

    def __init__(self, assistant: Assistant, folder: Path) -> None:
        self.folder, self.written = folder, [""]
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("picture_*.png"):
            old.unlink()
        self.chat = Chat(assistant, folder=folder, write=self.written.append, images="", progress=False)

    def show(self, picture: np.ndarray) -> None:
        """/image, with a file of the picture."""
        path = self.folder / "given.png"
        Image.fromarray(picture).save(path)
        self.chat.handle(f"/image {path}")

    def say(self, line: str) -> Reply:
        """Type one line."""
        before, self.written[:] = self._saved(), []
        self.chat.handle(line)
        lines = "".join(self.written).splitlines()
        text = "\n".join(line for line in lines if not line.startswith(("(", "!")))
        fresh = [path for path in self._saved() if path not in before]
        pictures = [np.asarray(Image.open(path).convert("RGB")) for path in fresh]
        return Reply(text=text.strip(), pictures=tuple(pictures))

    def _saved(self) -> list[Path]:
        return sorted(self.folder.glob("picture_*.png"))
