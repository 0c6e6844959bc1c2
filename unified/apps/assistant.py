"""The assistant: a model with the verbs ask, draw, edit, solve, imagine, act and chat.

>>> import unified
>>> assistant = unified.load()                                              # doctest: +SKIP
>>> assistant.ask("What colour is the circle?", image="scene.png")          # doctest: +SKIP
'red'

Without trained weights, a tiny model with random weights shows the same calls; its answers are noise:

>>> from unified.apps.demo import random_model
>>> assistant = Assistant(*random_model(), side=32)
>>> assistant.draw("Draw a red circle.").shape
(32, 32, 3)
>>> picture = assistant.draw("Draw a red circle.")
>>> assistant.edit(picture, "Make it blue.").shape
(32, 32, 3)
>>> isinstance(assistant.ask("What is this?", image=picture, max_tokens=8), str)
True
>>> assistant.imagine(picture, [{"forward": 1}, {"camera": [0, 5]}]).shape
(2, 32, 32, 3)
>>> sorted(assistant.act(picture))[:3]
['ESC', 'attack', 'back']
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unified.apps.answering import GREEDY, NUCLEUS, Content, GenerationSettings, Turn, images_of, text_of
from unified.apps.best_of_n import TRIES, best_of_n
from unified.apps.conversation import Conversation, Event, Painted, note
from unified.apps.dream import WINDOW as DREAM_WINDOW
from unified.apps.dream import Dream
from unified.apps.frame_writer import FrameWriter
from unified.apps.image_text import ImageTextAssistant
from unified.apps.looking import LOOKING, after_look, concluded, for_list, only_list
from unified.apps.pictures import fit
from unified.apps.rollout import WINDOW, Player, Rollout
from unified.apps.sketching import SketchLimits
from unified.apps.text_to_image import TextToImage
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.finite import check_count
from unified.model import UnifiedModel
from unified.native import fast_bfloat16
from unified.orders.shapes import Shapes
from unified.stream.message_forms import read_picture
from unified.stream.messages import Message
from unified.stream.processor import Processor
from unified.tokenizers.images import Picture

SIDE = 64  # pixels of the longer side of every picture, in and out
MAZE_PROMPT = (  # the words of the task `maze`, which the model was trained on
    "\nFind the actions that lead from the green arrow to the red disc in this maze. "
    "Black lines are walls, white is free. "
    'Each action is one of: "go forward" (move straight until the next turn or junction), '
    '"turn left" and "turn right" (rotate in place).\n'
)

ASKING = GenerationSettings(allow_images=False, max_tokens=256)
CHATTING = GenerationSettings(
    image_sampler=GREEDY, minimum_risk_width=0.4, guidance=Constant(1.5), max_tokens=512, max_images=8
)
DRAWING = replace(CHATTING, require_image=True, max_tokens=128)
EDITING = replace(DRAWING, max_tokens=256)
SOLVING = GenerationSettings(allow_images=False, image_after="</actions>", max_tokens=1024, max_images=12,
                 image_sampler=GREEDY)  # fmt: skip
SKETCHING = GenerationSettings(sketches=SketchLimits(), max_tokens=1024, image_sampler=GREEDY)

Source = Picture | str | Path | bytes


def another(settings: GenerationSettings, attempt: int) -> GenerationSettings:
    """The settings of attempt 0, 1, ... of best-of-n: from the second one on images are sampled, since greedy
    decoding would give the same image each time."""
    return settings if attempt == 0 else replace(settings, image_sampler=NUCLEUS)


@dataclass(frozen=True)
class Solution:
    """A solved maze: `actions` in order, `sketches` drawn on the way, each uint8 [H, W, 3], and all `text`.
    `content`: the items of the answer in order; `cut`: why it was cut, "" where the model ended it."""

    actions: list[str]
    sketches: list[np.ndarray]
    text: str
    content: Content = field(default_factory=list)
    cut: str = ""

    @staticmethod
    def of(content: Content, cut: str = "") -> Solution:
        text = text_of(content)
        parts = re.findall(r"<actions>(.*?)</actions>", text, re.DOTALL)
        actions = [action.strip() for part in parts for action in part.split(",")]
        return Solution(actions, images_of(content), text, content, cut)


class Assistant:
    """A model and its processor; each verb is a short loop over a `Session`. Images are given as anything
    that `tokenizers.images` takes, as the path or the bytes of a file, or as a `data:` URL, and resized to
    `side` pixels; they are returned as uint8 [H, W, 3]. The same call with the same seed gives the same
    answer. ValueError for a model without a visual tokenizer, or a side that is no multiple of its
    stride."""

    draws = True
    several_images = False  # in one question

    def __init__(
        self,
        model: UnifiedModel,
        processor: Processor,
        *,
        seed: int = 0,
        side: int = SIDE,
        folder: Path | None = None,
    ) -> None:
        if processor.visual is None:
            raise ValueError("this model has no visual tokenizer: it neither sees nor draws")
        if side < 1 or side % processor.visual.stride:
            raise ValueError(f"side must be a multiple of {processor.visual.stride}, got {side}")
        self.model, self.processor = model, processor
        self.visual: Any = processor.visual
        self.seed, self.side, self.folder = seed, side, folder

    # Verbs --------------------------------------------------------------------------------------------------

    def ask(
        self,
        question: str,
        image: Source | None = None,
        *,
        look: bool = True,
        max_tokens: int = 256,
        most_tokens: int | None = None,
    ) -> str:
        """The answer to a question, about an image if one is given. With `look` the model first writes a list
        of what each part of the image shows and a chain of thought, neither of which is returned: about a
        second longer, more often right. `most_tokens`: former name of `max_tokens`, deprecated."""
        max_tokens = _max_tokens(max_tokens, most_tokens)
        settings, request = replace(ASKING, max_tokens=max_tokens), self.request(question, image)
        if look and image is not None:
            request = after_look(request, self._answer(for_list(request), LOOKING, image))
            return text_of(concluded(self._answer(request, settings, image)))
        return text_of(self._answer(request, settings, image))

    def draw(
        self,
        prompt: str,
        *,
        size: tuple[int, int] | None = None,
        guidance: float = 1.5,
        temperature: float = 0.0,
        tries: int = TRIES,
    ) -> np.ndarray:
        """An image of what the prompt says: by greedy decoding, or with a temperature sampled by the seed.
        `size` (height, width) in pixels defaults to a square of `side`. `tries`: an image of several objects
        is the best of at most so many, with the model as its own judge (`best_of_n`)."""
        shapes = self.shapes(size or (self.side, self.side))
        pixels = replace(NUCLEUS, temperature=temperature) if temperature else GREEDY
        settings = replace(DRAWING, guidance=Constant(guidance), image_sampler=pixels)
        return self._drawn(self.request(prompt), settings, None, shapes, tries)

    def edit(
        self, image: Source, instruction: str, *, guidance: float = 1.5, tries: int = TRIES
    ) -> np.ndarray:
        """The image after the instruction was carried out, of the size that the model read it in; `tries` as
        in `draw`."""
        settings = replace(EDITING, guidance=Constant(guidance))
        return self._drawn(self.request(instruction, image), settings, image, None, tries)

    def solve(
        self,
        maze: Source,
        *,
        sketches: bool = True,
        limits: SketchLimits | None = None,
        page: int | None = None,
        prompt: str = MAZE_PROMPT,
        hear: Callable[[Event], None] | None = None,
    ) -> Solution:
        """The actions through a maze as drawn by the task `maze`; with `sketches` False by text alone. With
        `limits` the model decides what it draws and when, and an answer over a limit is cut and kept;
        without, a sketch is drawn after every part, as Latent Sketchpad does (arXiv 2510.24514). `page`:
        after so many sketches the conversation begins anew with the latest one as its picture, for traces
        whose sketches hold all there is to know; `limits` are then those of a page but for `images`, the most
        in all. `prompt`: the words of the request, for models of other traces. `hear` is given the text and
        the images as they come."""
        if page is not None:
            check_count("page", page, 1)
        if page is not None and limits is None:
            raise ValueError("pages are for sketches that the model decides on: give limits")
        content: Content = []
        picture, left = self.picture(maze), 0 if limits is None else limits.images
        while True:
            settings = SOLVING if sketches else replace(SOLVING, image_after="")
            if limits is not None and sketches:
                most = left if page is None else min(page, left)
                settings = replace(SKETCHING, sketches=replace(limits, images=most))
            talk = self._talk(picture, settings)
            drawn = 0
            for event in talk.say(prompt, [picture]):
                note(content, event)
                if isinstance(event, Painted):
                    picture, drawn = event.image, drawn + 1
                if hear is not None:
                    hear(event)
            left -= drawn
            if page is None or not talk.full or left <= 0:
                return Solution.of(content, talk.cut)

    def imagine(
        self, frames: Source | Sequence[Source], actions: Sequence[Mapping[str, Any]], *, window: int = WINDOW
    ) -> np.ndarray:
        """The n predicted frames after actions, uint8 [n, H, W, 3]. Of n + m - 1 actions for m known frames
        the first m - 1 are those between the known frames. `window`: frames that stay in the cache."""
        many = isinstance(frames, (list, tuple)) or (isinstance(frames, np.ndarray) and frames.ndim == 4)
        known = [self.picture(frame) for frame in (frames if many else [frames])]  # type: ignore[arg-type,union-attr]
        taken, coming = list(actions[: len(known) - 1]), list(actions[len(known) - 1 :])
        rollout = Rollout(self.model, self.processor, [known], [taken], window=window, seed=self.seed)
        found = [rollout.step([action])[0] for action in coming]
        height, width = rollout.shapes[-1]
        stride = self.visual.stride
        return np.stack(found) if found else np.zeros((0, height * stride, width * stride, 3), np.uint8)

    def act(self, frame: Source, task: str = "Explore.") -> dict[str, Any]:
        """The likeliest action for a frame: 23 buttons (0 or 1) and `camera` in degrees. For an episode use
        `player`, which samples."""
        return self.player(task, sampler=Sampler(temperature=0)).act(self.picture(frame))

    def dream(self, size: tuple[int, int], *, rows: int = 1, window: int = DREAM_WINDOW,
              sampler: Sampler | None = None, mean: bool | None = None) -> Dream:  # fmt: skip
        """Rows of imagined frames of `size` (height, width) pixels that are started, stepped and restored one
        by one; what the environments run on."""
        writer = FrameWriter(self.model, self.processor, sampler=sampler, mean=mean)
        grid = self.shapes(size)[-1]
        return Dream(writer, self.processor.schedule(grid, frame=True), rows=rows, window=window)

    def player(self, task: str | Sequence[str] = "Explore.", *, rows: int = 1,
               sampler: Sampler | None = None) -> Player:  # fmt: skip
        """A player that chooses an action for each frame of an episode, or of `rows` episodes at once; None
        samples."""
        return Player(self.model, self.processor, task, rows=rows, seed=self.seed, sampler=sampler)

    def chat(self, *, max_tokens: int = 512, most_tokens: int | None = None) -> Conversation:
        """A conversation with streaming answers of at most `max_tokens` ids of text. `most_tokens`: its
        former name, deprecated."""
        return Conversation(
            self.model,
            self.processor,
            seed=self.seed,
            shapes=self.shapes((self.side, self.side)),
            settings=replace(CHATTING, max_tokens=_max_tokens(max_tokens, most_tokens)),
        )

    def push_to_hub(self, repository: str, **options: Any) -> str:
        """Upload the folder that `unified.load(repository)` reads, model and processor; the address of the
        commit. `options` as of `hugging_face.pushing.pushed`. ValueError, in one line, where the hub cannot
        be reached."""
        from unified.hugging_face.pushing import pushed
        from unified.pretrained import save_model

        return pushed(repository, lambda to: save_model(to, self.model, self.processor), **options)

    def _talk(self, picture: np.ndarray, settings: GenerationSettings) -> Conversation:
        """A conversation that draws images of the size of this one."""
        shapes = self.shapes((picture.shape[0], picture.shape[1]))
        return Conversation(self.model, self.processor, shapes=shapes, settings=settings, seed=self.seed)

    # Parts --------------------------------------------------------------------------------------------------

    def shown(self, source: Source) -> np.ndarray:
        """An image as a conversation is given it: uint8 [H, W, 3]."""
        return self.picture(source)

    def picture(self, source: Source) -> np.ndarray:
        """An image at the size in which the model reads it: uint8 [H, W, 3]."""
        return fit(read_picture(source), self.side, self.visual.stride, self.processor.max_pixels)

    def shapes(self, size: tuple[int, int]) -> Shapes:
        """The maps of a generated image of (height, width) pixels. ValueError for a size the tokenizer cannot
        have."""
        stride, most = self.visual.stride, self.processor.vocabulary.max_side
        if min(size) < 1 or size[0] % stride or size[1] % stride or max(size) > most * stride:
            raise ValueError(
                f"a picture has sides of {stride}, {2 * stride}, ... {most * stride} pixels, got {size}"
            )
        return self.processor.schedule((size[0] // stride, size[1] // stride))

    def request(self, words: str, image: Source | None = None) -> list[Message]:
        """One turn of the user."""
        content: Content = [{"type": "text", "text": words}]
        self._check_words(content)
        if image is not None:
            content.insert(0, {"type": "image", "image": self.picture(image)})
        return [{"role": "user", "content": content}]

    def _check_words(self, content: Content) -> None:
        """ValueError for a text that the model's context has no room for: before anything else is done."""
        count, most = len(self.processor.stream.content(content)), self.model.context_length
        if most is not None and count >= most:
            raise ValueError(f"the text has {count} ids, the model's context {most} positions: shorten it")

    def _drawn(
        self,
        request: list[Message],
        settings: GenerationSettings,
        image: Source | None,
        shapes: Shapes | None,
        tries: int,
    ) -> np.ndarray:
        def draw(_: Sequence[int], attempt: int) -> list[Content]:
            return [self._answer(request, another(settings, attempt), image, shapes, self.seed + attempt)]

        def look(pictures: Sequence[np.ndarray]) -> list[Content]:
            return [self._answer(only_list(picture), LOOKING, picture) for picture in pictures]

        return images_of(best_of_n(1, draw, look, tries)[0])[-1]

    def _answer(
        self,
        messages: list[Message],
        settings: GenerationSettings,
        image: Source | None,
        shapes: Shapes | None = None,
        seed: int | None = None,
    ) -> Content:
        if shapes is None:
            given = messages[-1]["content"][0].get("image") if image is not None else None
            shapes = self.shapes(given.shape[:2] if given is not None else (self.side, self.side))
        session = Session(self.model, seed=self.seed if seed is None else seed)
        self._read(session, messages)
        turn = Turn(session, self.processor, shapes, settings)
        for _ in turn.events():
            pass
        return turn.content(0)

    def _read(self, session: Session, messages: list[Message]) -> None:
        """Read a prompt into a session."""
        session.feed(self.processor.encode(messages, prompt=True))


def load(
    model: str | Path | None = None,
    *,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    revision: str | None = None,
    attn_implementation: str = "sdpa",
    **placement: Any,
) -> Any:
    """The model of a folder or of a hub name, or the one that ships with the package: an `Assistant`, an
    `ImageTextAssistant` for a model of `transformers`, an `ExtendedAssistant` for one that was extended, a
    `DrawingAssistant` for VARGPT-v1.1, or a `TextToImage` for a published model that draws
    (`text_to_image.folder`). `device` None: a GPU if there is one; `dtype` None: bfloat16 there and on CPUs
    that multiply it natively, float32 on others. `revision`: of a hub name. `attn_implementation`: sdpa,
    flash_attention_2, or for our own models flex_attention (whole batches). `placement`, for models of
    `transformers`: `device_map` and `load_in_4bit` (`vision_language.files`). ValueError, in one line, if
    there is no such model or a file is missing or damaged."""
    from unified.checkpoints.folder import holds_vargpt
    from unified.pretrained import find, load_model
    from unified.text_to_image.folder import is_text_to_image
    from unified.vision_language.files import is_pretrained, load_pretrained

    place = _device(device)
    folder = find(model, revision)
    if is_pretrained(folder):
        placement |= {"attn_implementation": attn_implementation}
        reader, words = load_pretrained(folder, device=place, dtype=_dtype(dtype, place), **placement)
        return ImageTextAssistant(reader, words, seed=seed, folder=folder)
    if holds_vargpt(folder) and not placement:
        from unified.apps.vargpt import load_vargpt

        _check_sdpa(attn_implementation)
        return load_vargpt(folder, device=place, dtype=_dtype(dtype, place), seed=seed)
    if placement:
        raise ValueError(f"{', '.join(placement)}: for models of transformers alone")
    if is_text_to_image(folder):
        from unified.text_to_image.files import load_drawer

        _check_sdpa(attn_implementation)
        drawer = load_drawer(folder, device=place, dtype=_dtype(dtype, place))
        return TextToImage(drawer, seed=seed, folder=folder)
    loaded, processor = load_model(folder, device=place, dtype=_dtype(dtype, place))
    loaded.set_attn_implementation(attn_implementation)
    if loaded.config.base:
        from unified.apps.extended import extended_assistant

        return extended_assistant(loaded, processor, seed=seed, folder=folder)
    return Assistant(loaded.fuse(), processor, seed=seed, folder=folder)


def _check_sdpa(attn_implementation: str) -> None:
    if attn_implementation != "sdpa":
        raise ValueError(f"this model attends by sdpa, got attn_implementation {attn_implementation!r}")


def _max_tokens(max_tokens: int, most_tokens: int | None) -> int:
    """`max_tokens`, or what its former name was given."""
    if most_tokens is None:
        return max_tokens
    warnings.warn("most_tokens is now called max_tokens", DeprecationWarning, stacklevel=3)
    return most_tokens


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ValueError(f"device {name!r} is not available here: use {' or '.join(there)}") from None
    return device


def _dtype(name: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    if isinstance(name, torch.dtype):
        return name
    if name is None:
        return torch.bfloat16 if fast_bfloat16(device) else torch.float32
    found = getattr(torch, name, None)
    if found not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"unknown dtype {name!r}: use float32, bfloat16 or float16")
    return found
