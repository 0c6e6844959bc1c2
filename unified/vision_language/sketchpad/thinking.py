"""An answer in words and latent sketches: text until a sketch is due, its latents one by one, text again.

The published model does not decide when to draw: an image is opened after the text `</actions>`. Here the
model may open one itself, too, by saying the id that begins an image. Keys and values of the language model
stay, and the head's own are held while an image is drawn, so a latent costs one position and one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.finite import check_count, check_values
from unified.heads.latents import Latents
from unified.layout.features import ADVANCE
from unified.stream.base_words import FEATURES, PLACES
from unified.vision_language.generation import Speech, said
from unified.vision_language.processor import PretrainedProcessor, Prompt
from unified.vision_language.sketchpad.model import Images, Sketchpad

CLOSER = "</actions>"


@dataclass(frozen=True, kw_only=True)
class SketchRule:
    """A sketch is due after every `closer` in the text (None: only where the model opens one). An answer has
    at most `sketches` sketches and `max_tokens` ids of text."""

    closer: str | None = CLOSER
    sketches: int = 8
    max_tokens: int = 2500

    def __post_init__(self) -> None:
        check_count("sketches", self.sketches)
        check_count("max_tokens", self.max_tokens, 1)
        if self.closer == "":
            raise ValueError("closer must be a text, or None for sketches that the model opens itself")


@dataclass(frozen=True)
class Sketch:
    """Normalised features [n * merge, V] of a sketch: what a sketch decoder draws."""

    features: Tensor


@dataclass
class Thinking:
    """One answer: iterate over it for its pieces, of text and sketches, as they come. `parts` holds those
    that came, and `stopped` why it ended: "end", "length" (also where the context has no room for a sketch),
    or "sketches" for one sketch too many. `given`: features before the connector's norm [n * merge, V] that
    take the place of sketch number 0, 1, ..."""

    pad: Sketchpad
    processor: PretrainedProcessor
    session: Session
    rule: SketchRule
    sampler: Sampler
    images: Images  # of the prompt
    parts: list[str | Sketch] = field(default_factory=list)
    stopped: str = ""
    given: Callable[[int], Tensor] | None = None

    def __iter__(self) -> Iterator[str | Sketch]:
        prefix = [latents.embeds for latents in self.pad.latents(self.images)]
        left, drawn = self.rule.max_tokens, 0
        while True:
            opened, segment = "", _Segment(self.processor, self.rule.closer, self.pad.begin)
            for token in self._words(left):
                left -= 1
                yield from self._told(segment.hear(token))
                if opened := segment.opens:
                    break
            yield from self._told(segment.flush())
            if not opened:
                self.stopped = self.session.rows[0].stopped
                return
            if left <= 0 or not self._room():
                self.stopped = "length"
                return
            if drawn == self.rule.sketches or len(prefix) == self.pad.head.config.images:
                self.stopped = "sketches"
                return
            self._open(opened == "begin")
            if self.given is None:
                found = self._draw(torch.cat(prefix) if prefix else None)
            else:
                found = self._read(self.given(drawn))
            self.session.feed([self.pad.end])
            drawn, prefix, sketch = drawn + 1, [*prefix, found.embeds], Sketch(found.vision)
            self.parts.append(sketch)
            yield sketch

    def _room(self) -> bool:
        """Whether the context holds one more sketch with the ids around it."""
        most = self.pad.reader.context_length
        return most is None or len(self.session.streams[0]) + self.pad.tokens + 2 <= most

    def _words(self, most: int) -> Iterator[int]:
        for ids in said(self.session, self.pad.reader, self.sampler, most):
            if ids[0] is not None:
                yield ids[0]

    def _told(self, piece: str) -> Iterator[str]:
        if not piece:
            return
        if self.parts and isinstance(self.parts[-1], str):
            self.parts[-1] += piece
        else:
            self.parts.append(piece)
        yield piece

    def _open(self, begun: bool) -> None:
        self.session.read_pending() if begun else self.session.feed([self.pad.begin])

    @torch.no_grad()
    def _read(self, features: Tensor) -> Latents:
        """An image as if it had been drawn: features [n * merge, V]."""
        grid = self.images.only([len(self.images) - 1]).grid if len(self.images) else None
        values = self.pad.values(Images([features], grid), [True])
        self.session.feed([self.pad.reader.image] * self.pad.tokens, values=values)
        return self.pad.finished(features)

    @torch.no_grad()
    def _draw(self, prefix: Tensor | None) -> Latents:
        """One image after the finished ones [m, T]."""
        pad, session = self.pad, self.session
        places = _places(pad, self.images)
        assert session.last is not None
        dtype = next(pad.head.parameters()).dtype
        rows = session.last.new_zeros(1, 0, pad.reader.width) if prefix is None else prefix[None]
        rows = rows.to(dtype)
        cache = pad.head.open(rows, torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device))
        vision, embeds = [], []
        for place in places:
            latent = pad.finished(pad.head.extend(cache, session.last[:, None].to(dtype)))
            check_values(latent.embeds)
            session.feed([pad.reader.image], values={FEATURES: latent.embeds[0], **place})
            vision.append(latent.vision[0])
            embeds.append(latent.embeds[0])
        return Latents(torch.cat(vision), torch.cat(embeds))


class _Segment:
    """Text since the latest sketch. `opens`: "closer" or "begin" once a sketch is due, "" before."""

    def __init__(self, processor: PretrainedProcessor, closer: str | None, begin: int) -> None:
        self.speech, self.closer, self.begin = Speech(processor), closer, begin
        self.text, self.opens = "", ""

    def hear(self, token: int) -> str:
        if token == self.begin:
            self.opens = "begin"
            return ""
        piece = self.speech.hear(token)
        self.text += piece
        if self.closer and self.closer in self.text:
            self.opens = "closer"
        return piece

    def flush(self) -> str:
        return self.speech.flush()


def think(
    pad: Sketchpad,
    processor: PretrainedProcessor,
    prompt: Prompt,
    rule: SketchRule,
    *,
    sampler: Sampler | None = None,
    seed: int = 0,
) -> Thinking:
    """Read a prompt; the answer is made while one iterates over what is returned. `sampler`: greedy if not
    given. ValueError for more images than the head has room for, and for a prompt without an image where
    positions need one."""
    images = pad.encode(prompt.inputs)
    if len(images) > pad.head.config.images:
        raise ValueError(f"{len(images)} images, the vision head has room for {pad.head.config.images}")
    if pad.reader.layers.spatial and not len(images):
        raise ValueError("sketches take the grid of the prompt's last image: give an image")
    _places(pad, images)  # refuses another grid before anything is read
    session = Session(pad.reader, seed=seed)
    session.feed(prompt.ids, values=pad.values(images, [False] * len(images)))
    return Thinking(pad, processor, session, rule, sampler or Sampler(temperature=0), images)


def _places(pad: Sketchpad, images: Images) -> list[dict[str, Tensor]]:
    """By latent, what else stands at its placeholder: with multimodal rotary positions that of a cell of the
    grid of the prompt's last image; positions move on after the last alone. ValueError for another grid."""
    places = pad.places(images.only([len(images) - 1])) if len(images) else None
    if places is None:
        return [{}] * pad.tokens
    if len(places) != pad.tokens:
        raise ValueError(
            f"the last image has {len(places)} positions, a sketch {pad.tokens}: give an image of the size "
            "of the sketches"
        )
    places = places.clone()
    places[:-1, ADVANCE] = 0
    return [{PLACES: place[None]} for place in places]
