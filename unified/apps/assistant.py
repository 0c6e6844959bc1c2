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

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from PIL.Image import Image

from unified.apps.adapters import Adapters
from unified.apps.answer import Answer
from unified.apps.answering import GREEDY, NUCLEUS, Content, GenerationSettings, Turn, images_of
from unified.apps.asking import ASKING, INTRODUCTION, Asking, pictures_of
from unified.apps.attention_maps import AttentionMaps, image_attention
from unified.apps.best_of_n import TRIES, best_of_n
from unified.apps.conditions import EDGES, GIVEN, SMALL
from unified.apps.conditions import edges as edges_of
from unified.apps.controlled import LARGER, continued, enlarged, given_maps, joined, reading, tiles
from unified.apps.conversation import Conversation, Event
from unified.apps.dream import WINDOW as DREAM_WINDOW
from unified.apps.dream import Dream
from unified.apps.frame_writer import FrameWriter
from unified.apps.looking import LOOKING, only_list
from unified.apps.masks import in_painting
from unified.apps.pictures import as_codes, check_codes, fit, given_as
from unified.apps.questions import Source, conversations, sources
from unified.apps.rollout import WINDOW, Player, Rollout
from unified.apps.sketching import SketchLimits
from unified.apps.solving import MAZE_PROMPT, Solution, solve_pages
from unified.backbone.layer_pass import LayerPart
from unified.core_model import CoreModel
from unified.decoding.grounding import MutualInformation
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import Strategy, build_strategy
from unified.finite import check_count
from unified.model_summary import summary
from unified.orders import plan_for
from unified.orders.shapes import Shapes
from unified.stream.message_forms import read_picture
from unified.stream.messages import Message
from unified.stream.processor import Processor
from unified.tokenizers.images import to_images, to_uint8

SIDE = 64  # pixels of the longer side of every picture, in and out
CHATTING = GenerationSettings(
    image_sampler=GREEDY, minimum_risk_width=0.4, guidance=Constant(1.5), max_tokens=512, max_images=8
)
DRAWING = replace(CHATTING, require_image=True, max_tokens=128)
EDITING = replace(DRAWING, max_tokens=256)


def another(settings: GenerationSettings, attempt: int) -> GenerationSettings:
    """The settings of attempt 0, 1, ... of best-of-n: from the second one on images are sampled, since greedy
    decoding would give the same image each time."""
    return settings if attempt == 0 else replace(settings, image_sampler=NUCLEUS)


def sampler_of(temperature: float) -> Sampler:
    """How codes are chosen at a temperature; 0 is greedy."""
    return replace(NUCLEUS, temperature=temperature) if temperature else GREEDY


class Assistant:
    """A model and its processor; each verb is a short loop over a `Session`. Images are given as anything
    that `tokenizers.images` takes (Pillow, uint8 of 0 to 255, numpy floats of 0 to 1, torch floats of -1 to
    1), as the path or the bytes of a file, or as a `data:` URL, and resized to `side` pixels; they are
    returned as uint8 [H, W, 3]. The same call with the same seed gives the same answer. ValueError for a
    model without a visual tokenizer, or a side that is no multiple of its stride."""

    draws = True
    thinks = True  # what it says to itself is no part of an answer (`inner_speech`)
    several_images = False  # in one question
    strategy: Strategy | None = None  # of decoding, in conversations (`drafting`)

    def __init__(
        self,
        model: CoreModel,
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

    def __repr__(self) -> str:
        where = self.folder or "memory"
        return f"{type(self).__name__}({summary(self.model)}, from {where}, side {self.side})"

    # Verbs --------------------------------------------------------------------------------------------------

    def ask(
        self,
        question: str,
        image: Source | Sequence[Source] | None = None,
        *,
        look: bool = True,
        grounded: bool = False,
        max_tokens: int = 256,
        log_probs: bool = False,
        most_tokens: int | None = None,
    ) -> Answer:
        """The answer to a question, about an image if one is given (or several, which the shipped model was
        not trained on); "" where the model has none. With `look` the model first writes a list of what each
        part of the image shows and a chain of thought, neither of which is returned: about a second longer,
        more often right (`asking`). `grounded`: words are set off against those that the model would say
        without the image, ever more (M3ID, arXiv 2403.14003): less is said that the image does not show.
        `log_probs`: the answer knows its `tokens`. `most_tokens`: former name of `max_tokens`,
        deprecated."""
        max_tokens = _max_tokens(max_tokens, most_tokens)
        options: dict[str, Any] = {"look": look, "max_tokens": max_tokens, "log_probs": log_probs}
        options["grounded"] = grounded
        return self.answers([question], [image], **options)[0]

    def answers(
        self,
        questions: Sequence[str | Sequence[Message]],
        images: Sequence[Source | Sequence[Source] | None] | None = None,
        *,
        look: bool = True,
        grounded: bool = False,
        max_tokens: int = 256,
        batch: int = 16,
        log_probs: bool = False,
    ) -> list[Answer]:
        """The answers to many questions, `batch` at a time and each as `ask` gives it alone. `images`: one,
        several or None for each question. A question may be a whole conversation that ends with a message of
        the user; its images then stand in it."""
        check_count("batch", batch, 1)
        asked = conversations(questions, images, self.request)
        asking = self.asking(max_tokens, batch, grounded)
        looked = [n for n, messages in enumerate(asked) if look and pictures_of(messages) == 1]
        found = dict(zip(looked, asking.looking([asked[n] for n in looked]), strict=True))
        rest = [n for n in range(len(asked)) if n not in found]
        found |= zip(rest, asking.at_once([asked[n] for n in rest]), strict=True)
        return [found[n] if log_probs else Answer(found[n]) for n in range(len(asked))]

    def introduction(self) -> str:
        """What the model says it can do; "" if it says nothing of the kind."""
        return self.asking().blind([self.request(INTRODUCTION)])[0]

    def asking(self, max_tokens: int = 256, batch: int = 16, grounded: bool = False) -> Asking:
        """How this model is asked."""
        contrast = MutualInformation() if grounded else ASKING.visual_contrast
        return Asking(
            model=self.model,
            processor=self.processor,
            shapes=self.shapes((self.side, self.side)),
            settings=replace(ASKING, max_tokens=max_tokens, visual_contrast=contrast),
            seed=self.seed,
            batch=batch,
        )

    @overload
    def draw(
        self,
        prompt: str,
        *,
        size: tuple[int, int] | None = ...,
        guidance: float = ...,
        temperature: float = ...,
        tries: int = ...,
        strategy: Strategy | str | None = ...,
        as_pil: Literal[False] = ...,
    ) -> np.ndarray: ...

    @overload
    def draw(
        self,
        prompt: str,
        *,
        size: tuple[int, int] | None = ...,
        guidance: float = ...,
        temperature: float = ...,
        tries: int = ...,
        strategy: Strategy | str | None = ...,
        as_pil: Literal[True],
    ) -> Image: ...

    def draw(
        self,
        prompt: str,
        *,
        size: tuple[int, int] | None = None,
        guidance: float = 1.5,
        temperature: float = 0.0,
        tries: int = TRIES,
        strategy: Strategy | str | None = None,
        as_pil: bool = False,
    ) -> np.ndarray | Image:
        """An image of what the prompt says: by greedy decoding, or with a temperature sampled by the seed.
        `size` (height, width) in pixels defaults to a square of `side`. `tries`: an image of several objects
        is the best of at most so many, with the model as its own judge (`best_of_n`). `strategy`: of
        decoding, or the name of one (`decoding.strategies`); those that compare codes are given the
        tokenizer's codebook. `as_pil`: as an image of Pillow."""
        shapes = self.shapes(size or (self.side, self.side))
        if isinstance(strategy, str):
            strategy = build_strategy(strategy, self.visual.codebook().detach())
        told: dict[str, Any] = {
            "guidance": Constant(guidance),
            "image_sampler": sampler_of(temperature),
            "strategy": strategy,
        }
        settings = replace(DRAWING, **told)
        return given_as(self._drawn(self.request(prompt), settings, None, shapes, tries), as_pil)

    @overload
    def edit(
        self,
        image: Source,
        instruction: str,
        *,
        mask: Source | None = ...,
        guidance: float = ...,
        tries: int = ...,
        as_pil: Literal[False] = ...,
    ) -> np.ndarray: ...

    @overload
    def edit(
        self,
        image: Source,
        instruction: str,
        *,
        mask: Source | None = ...,
        guidance: float = ...,
        tries: int = ...,
        as_pil: Literal[True],
    ) -> Image: ...

    def edit(
        self,
        image: Source,
        instruction: str,
        *,
        mask: Source | None = None,
        guidance: float = 1.5,
        tries: int = TRIES,
        as_pil: bool = False,
    ) -> np.ndarray | Image:
        """The image after the instruction was carried out, of the size that the model read it in; `tries` and
        `as_pil` as in `draw`. `mask`: an image of the same aspect ratio, white where it may change; outside
        the codes stay (in-painting, `masks`)."""
        settings = replace(EDITING, guidance=Constant(guidance))
        if mask is not None:
            settings = replace(settings, hook=in_painting(self.processor, self.picture(image), mask))
        return given_as(self._drawn(self.request(instruction, image), settings, image, None, tries), as_pil)

    def control(
        self,
        prompt: str,
        condition: Source,
        *,
        edges: bool = False,
        guidance: float = 1.5,
        temperature: float = 0.0,
        tries: int = TRIES,
        as_pil: bool = False,
    ) -> np.ndarray | Image:
        """An image of what the prompt says, laid out as a picture shows it: an edge map, a sketch, a depth
        map, or with `edges` the edges of any picture. Needs a loaded control (`load_adapter`), the latest of
        which is taken. The image has the condition's aspect ratio; the other options are those of `draw`."""
        shown = self.picture(condition)
        adapter = self.adapters.control(EDGES) if edges else self.adapters.control(EDGES, GIVEN)
        shown = edges_of(shown) if edges else shown
        shapes, sampler = self.shapes(shown.shape[:2]), sampler_of(temperature)
        settings = replace(DRAWING, guidance=Constant(guidance), image_sampler=sampler, image_only=True)
        parts = [reading(adapter, shown, plan_for(self.processor.order, shapes))]
        return given_as(self._drawn(self.request(prompt), settings, None, shapes, tries, parts), as_pil)

    def upscale(
        self, image: Source, to: int, *, guidance: float = 1.0, temperature: float = 0.0, as_pil: bool = False
    ) -> np.ndarray | Image:
        """The image with a longer side of `to` pixels, drawn under it tile by tile (`controlled`). Needs a
        loaded adapter that reads small pictures (`python -m unified.train upscale`). ValueError for a `to`
        that is no multiple of the tokenizer's stride or not above the image's own longer side."""
        adapter, picture = self.adapters.control(SMALL), to_uint8(to_images(read_picture(image)))[0]
        large = enlarged(picture, to, self.visual.stride)
        factor = to / max(picture.shape[:2])
        sampler = sampler_of(temperature)
        settings = replace(DRAWING, guidance=Constant(guidance), image_sampler=sampler, image_only=True)
        places, found = tiles(large.shape[0], large.shape[1], self.side), []
        for place in places:
            shown = np.ascontiguousarray(large[place.rows, place.columns])
            shapes = self.shapes(shown.shape[:2])
            parts = [reading(adapter, shown, plan_for(self.processor.order, shapes))]
            begun = continued(settings, given_maps(self.processor, shown, shapes, factor))
            found.append(self._drawn(self.request(LARGER), begun, None, shapes, 1, parts))
        return given_as(joined(found, places, large.shape[0], large.shape[1]), as_pil)

    # Adapters -----------------------------------------------------------------------------------------------

    @cached_property
    def adapters(self) -> Adapters:
        """The adapters that are loaded."""
        return Adapters(self.model, Path(self.model.name_or_path or "").name or "this model")

    def load_adapter(self, path: str | Path, name: str | None = None, *, only: str | None = None) -> str:
        """Put the adapter of a file beside the model, under a name (default: the file's); several may be
        loaded. `only`: of a style's file "style" or "content". ValueError, in one line, for a file that is no
        adapter of this model."""
        return self.adapters.load(path, name, only)

    def remove_adapter(self, name: str) -> None:
        """Take an adapter away; without any, the model computes the same bits as before the first."""
        self.adapters.remove(name)

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
        return solve_pages(
            self._talk, self.picture(maze), prompt, sketches=sketches, limits=limits, page=page, hear=hear
        )

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
            settings=replace(
                CHATTING, max_tokens=_max_tokens(max_tokens, most_tokens), strategy=self.strategy
            ),
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

    # Inside -------------------------------------------------------------------------------------------------

    def codes(self, image: Source) -> list[np.ndarray]:
        """The codes by which the model reads an image, int64 [h, w] for each map; the default tokenizer reads
        one. `picture` decodes them."""
        item = self.processor.image_item(self.picture(image))
        counts = np.cumsum([height * width for height, width in item["shapes"]])[:-1]
        maps = zip(np.split(np.array(item["codes"]), counts), item["shapes"], strict=True)
        return [codes.reshape(shape) for codes, shape in maps]

    def attention(self, image: Source, question: str, answer: str | None = None) -> AttentionMaps:
        """What each token of an answer (None: the model's own, without looking first) attends to in an
        image, per layer and head."""
        said = self.ask(question, image, look=False) if answer is None else answer
        text = self.processor.stream.text
        prompt = self.processor.encode(self.request(question, image), prompt=True)
        tokens = text.encode(said)
        weights = image_attention(self.model, [*prompt, *tokens], len(prompt))
        return AttentionMaps(weights.numpy(), [text.decode([token]) for token in tokens], str(said))

    # Parts --------------------------------------------------------------------------------------------------

    def shown(self, source: Source) -> np.ndarray:
        """An image as a conversation is given it: uint8 [H, W, 3]."""
        return self.picture(source)

    def picture(self, source: Source | Sequence[np.ndarray]) -> np.ndarray:
        """An image at the size in which the model reads it, or what its codes (`codes`: int64 [h, w], or a
        list of maps) decode to: uint8 [H, W, 3]."""
        if (codes := as_codes(source)) is not None:
            check_codes(codes, self.processor.vocabulary.visual)
            shapes = [list(code.shape) for code in codes]
            return self.processor.picture(
                {"codes": np.concatenate([c.ravel() for c in codes]).tolist(), "shapes": shapes}
            )
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

    def request(self, words: str, image: Source | Sequence[Source] | None = None) -> list[Message]:
        """One turn of the user."""
        content: Content = [{"type": "text", "text": words}]
        self._check_words(content)
        shown = [{"type": "image", "image": self.picture(one)} for one in sources(image)]
        return [{"role": "user", "content": [*shown, *content]}]

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
        parts: Sequence[LayerPart] = (),
    ) -> np.ndarray:
        def draw(_: Sequence[int], attempt: int) -> list[Content]:
            chosen, seed = another(settings, attempt), self.seed + attempt
            return [self._answer(request, chosen, image, shapes, seed, parts)]

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
        parts: Sequence[LayerPart] = (),
    ) -> Content:
        if shapes is None:
            given = messages[-1]["content"][0].get("image") if image is not None else None
            shapes = self.shapes(given.shape[:2] if given is not None else (self.side, self.side))
        seed = self.seed if seed is None else seed
        beside = [*self.adapters.parts, *parts] if "adapters" in self.__dict__ else parts
        session = Session(self.model, seed=seed, strategy=settings.strategy, parts=beside)
        self._read(session, messages)
        turn = Turn(session, self.processor, shapes, settings)
        for _ in turn.events():
            pass
        return turn.content(0)

    def _read(self, session: Session, messages: list[Message]) -> None:
        """Read a prompt into a session."""
        session.feed(self.processor.encode(messages, prompt=True))


def _max_tokens(max_tokens: int, most_tokens: int | None) -> int:
    """`max_tokens`, or what its former name was given."""
    if most_tokens is None:
        return max_tokens
    warnings.warn("most_tokens is now called max_tokens", DeprecationWarning, stacklevel=3)
    return most_tokens
