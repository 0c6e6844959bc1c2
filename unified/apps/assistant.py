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
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from unified.apps.answer import Answer
from unified.apps.answering import GenerationSettings, images_of
from unified.apps.asking import ASKING, INTRODUCTION, Asking, pictures_of
from unified.apps.attention_maps import AttentionMaps, image_attention
from unified.apps.conversation import Conversation, Event
from unified.apps.drawing import Drawing
from unified.apps.questions import Source, conversations
from unified.apps.settings import CHATTING, DRAWING, EDITING, SIDE, another, sampler_of
from unified.apps.sketching import SketchLimits
from unified.apps.solving import MAZE_PROMPT, Solution, solve_pages
from unified.apps.worlds import Imagining
from unified.decoding.grounding import MutualInformation
from unified.finite import check_count
from unified.stream.messages import Message


class Assistant(Drawing, Imagining):
    """A model and its processor; each verb is a short loop over a `Session`. Images are given as anything
    that `tokenizers.images` takes (Pillow, uint8 of 0 to 255, numpy floats of 0 to 1, torch floats of -1 to
    1), as the path or the bytes of a file, or as a `data:` URL, and resized to `side` pixels; they are
    returned as uint8 [H, W, 3]. The same call with the same seed gives the same answer. ValueError for a
    model without a visual tokenizer, or a side that is no multiple of its stride."""

    draws = True
    thinks = True  # what it says to itself is no part of an answer (`inner_speech`)
    several_images = False  # in one question

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


def _max_tokens(max_tokens: int, most_tokens: int | None) -> int:
    """`max_tokens`, or what its former name was given."""
    if most_tokens is None:
        return max_tokens
    warnings.warn("most_tokens is now called max_tokens", DeprecationWarning, stacklevel=3)
    return most_tokens


__all__ = [
    "ASKING",
    "CHATTING",
    "DRAWING",
    "EDITING",
    "SIDE",
    "Assistant",
    "Solution",
    "another",
    "images_of",
    "sampler_of",
]
