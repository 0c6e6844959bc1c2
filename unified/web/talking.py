"""A visitor's chat: that of `unified chat` without the commands that touch files, and what is saved of it."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unified.apps.assistant import Assistant
from unified.apps.commands.chat import Chat
from unified.apps.commands.chat_screen import Answered, Screen
from unified.server.uploads import png
from unified.web.errand import Errand, Tell, events
from unified.web.site import Site
from unified.web.store import Saved, Store

Part = tuple[str, str | np.ndarray]  # "user" or "assistant", and a text or a picture
USER, SHOWN = (
    "> ",
    "> (a picture)",
)  # how the lines of the user begin in a transcript; one that shows a picture
HELP = """Type to talk; attach, drop or paste a picture to ask about it. Also:
/look (list what each part of the picture shows), /draw PROMPT, /edit INSTRUCTION, /solve (a maze),
/play ACTION ... (step the world from the picture, e.g. /play forward x4), /retry, /undo, /new"""


class Doing(str):
    """What is being done, for a line that is overwritten."""


class PageScreen(Screen):
    """Tells what the chat shows: text as `str`, pictures as uint8 [H, W, 3], progress as `Doing`."""

    def __init__(self, tell: Callable[[Any], None], chat: Chat) -> None:
        super().__init__(lambda text: tell(text), Path(), "", True, chat.transcript)
        self._hear = tell

    def count(self, words: str) -> None:
        self._hear(Doing(words))

    def show(self, image: np.ndarray) -> None:
        self.transcript.add(image)
        self._hear(image)


class PageChat(Chat):
    """The chat of one visitor with an assistant of its own. `digest` says whose ids the model reads
    (`tokenizer_digest`). `number`: by which it is saved."""

    def __init__(self, model: Assistant, digest: str, *, max_tokens: int) -> None:
        super().__init__(model, folder=Path(), write=lambda _: None, max_tokens=max_tokens)
        self.digest, self.number = digest, secrets.token_hex(16)
        self.busy = False  # whether an answer is under way

    def say(self, line: str, pictures: Sequence[np.ndarray], tell: Tell) -> None:
        """One message with pictures, uint8 [H, W, 3]; what comes of it is told."""
        self.write = tell
        self.screen = PageScreen(tell, self)
        if pictures:
            self._try(lambda: self._show(pictures))
        if line.strip() or not pictures:
            self.handle(line.replace("\n", " "))

    def _show(self, pictures: Sequence[np.ndarray]) -> None:
        def work() -> None:
            for picture in pictures:
                image = self.model.shown(picture)
                self.transcript.add(SHOWN)
                self.transcript.add(image)
                self._keep(image, show=True)
                self.screen.answered.images.append(image)

        self.screen.answered = Answered()
        self.turns.run("/image", work)

    def _turns(self) -> dict[str, Callable[[str], None]]:
        """No command of the page names a file."""
        found = {name: work for name, work in super()._turns().items() if name != "/image"}
        return {**found, "/solve": lambda words: self._solve_shown(words)}

    def _solve_shown(self, words: str) -> None:
        if words:
            raise ValueError("/solve takes no words here: attach the picture of a maze")
        self._solve("")

    def _others(self) -> dict[str, Callable[[str], None]]:
        found = {name: work for name, work in super()._others().items() if name != "/save"}
        return {**found, "/help": lambda _: self.write(HELP + "\n")}

    def _new(self) -> None:
        super()._new()
        self.transcript.entries.clear()
        self.number = secrets.token_hex(16)

    # What is saved ------------------------------------------------------------------------------------------

    def save(self, store: Store, visitor: str, also: Sequence[str | np.ndarray] = ()) -> None:
        """Write it to the store. `also`: entries that are not in the transcript yet."""
        entries = [*self.transcript.entries, *also]
        if visitor and entries:
            held = [entry if isinstance(entry, str) else png(entry) for entry in entries]
            store.save(visitor, self.number, title(entries), held, self.state())

    def state(self) -> dict[str, Any]:
        """From what `restore` goes on: the ids of the conversation, and whose ids they are."""
        ids, turns, values, forgotten, shapes = self.talk.saved()
        if values:  # what is no id is not kept
            return {}
        return {
            "tokenizer": self.digest,
            "ids": ids,
            "turns": turns,
            "forgotten": forgotten,
            "shapes": [list(shape) for shape in shapes],
            "waiting": len(self.waiting),
        }

    def restore(self, saved: Saved) -> bool:
        """Go on with a saved conversation. False where the model is another one: then it is shown, and a new
        conversation begins under it."""
        entries = [entry if isinstance(entry, str) else pixels(entry) for entry in saved.entries]
        self.number, self.transcript.entries[:] = saved.number, entries
        pictures, state = self.transcript.pictures, saved.state
        self.latest = pictures[-1] if pictures else None
        if state.get("tokenizer") != self.digest:
            return False
        shapes = tuple((height, width) for height, width in state["shapes"])
        self.talk.restore((state["ids"], state["turns"], {}, state["forgotten"], shapes))
        self.waiting = pictures[len(pictures) - state["waiting"] :]
        return True


def messages(entries: Sequence[str | np.ndarray]) -> list[Part]:
    """The parts of a transcript."""
    found: list[Part] = []
    shows = False
    for entry in entries:
        if isinstance(entry, str):
            shows = entry == SHOWN
            if entry.startswith(USER) and not shows:
                found.append(("user", entry[len(USER) :]))
            elif not shows:
                found.append(("assistant", entry))
        else:
            found.append(("user" if shows else "assistant", entry))
            shows = False
    return found


def title(entries: Sequence[str | np.ndarray]) -> str:
    """The first words of the user."""
    said = [part for role, part in messages(entries) if role == "user" and isinstance(part, str)]
    return said[0] if said else "a picture"


async def answered(
    site: Site, one: PageChat, visitor: str, words: str, files: Sequence[str]
) -> AsyncIterator[tuple[list[Part], str]]:
    """The conversation after each event, and what is being done ("" at the end). The message is saved before
    it is answered, and the answer when it has come."""
    pictures = [site.picture(path) for path in files]
    said: list[str | np.ndarray] = [entry for picture in pictures for entry in (SHOWN, picture)]
    said += [f"{USER}{words}"] if words.strip() else []
    if words.startswith(("/undo", "/retry", "/new")):
        said = []  # no message of the conversation
    else:
        await asyncio.to_thread(one.save, site.store, visitor, said)
    parts = messages([*one.transcript.entries, *said])
    yield parts, "waiting for the model"
    errand, live = Errand(lambda tell: one.say(words, pictures, tell)), list[Part]()
    async for event in events(site.service, errand):
        if not isinstance(event, Doing):
            _add(live, event)
        yield [*parts, *live], str(event) if isinstance(event, Doing) else "answering"
    await asyncio.to_thread(one.save, site.store, visitor)
    kept = [entry for entry in one.transcript.entries if isinstance(entry, str)]
    remarks = [part for part in live if isinstance(part[1], str) and part[1].strip() not in kept]
    remarks = [part for part in remarks if str(part[1]).lstrip().startswith(("!", "(", "Type"))]
    yield [*messages(one.transcript.entries), *remarks], ""


def _add(live: list[Part], event: str | np.ndarray) -> None:
    """Add a piece of an answer; what the chat itself says, an error or a remark, stands alone."""
    last = live[-1][1] if live else None
    if isinstance(event, str) and isinstance(last, str) and not event.startswith(("! ", "\n(")):
        live[-1] = ("assistant", last + event)
    elif not isinstance(event, str) or event.strip():
        live.append(("assistant", event))


def pixels(held: bytes) -> np.ndarray:
    """uint8 [H, W, 3] of a PNG file that this module wrote."""
    return np.asarray(Image.open(io.BytesIO(held)).convert("RGB"))
