"""Answers of pretrained models in a session: prompts of several rows, ids as they come, text from ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from unified.decoding.grounding import Contrast
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import Strategy
from unified.vision_language.model import PretrainedReader
from unified.vision_language.processor import PretrainedProcessor, Prompt

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what an incomplete UTF-8 character decodes to


def open_session(
    model: PretrainedReader,
    prompts: Sequence[Prompt],
    seed: int | Sequence[int],
    strategy: Strategy | None = None,
) -> Session:
    """A session that has read a prompt in each row. ValueError for one longer than the model's context."""
    values: dict[str, list[Tensor]] = {}
    for prompt in prompts:
        for name, tensor in model.values(prompt.inputs).items():
            values.setdefault(name, []).append(tensor)
    session = Session(model, rows=len(prompts), seed=seed, strategy=strategy)
    joined = {name: torch.cat(parts) for name, parts in values.items()}
    session.feed([prompt.ids for prompt in prompts], values=joined)
    return session


def said(
    session: Session,
    model: PretrainedReader,
    sampler: Sampler,
    max_tokens: int,
    *,
    draw: bool = False,
    contrast: float | Contrast = 0.0,
) -> Iterator[list[int | None]]:
    """`Session.text`, in which each of the ids that end an answer of the model ends it; at most as many ids
    as its context has room for. `draw`: whether it may start a drawing; `contrast`: with the same text
    without its images."""
    longest = max(len(row.stream) for row in session.rows)
    room = max_tokens if model.context_length is None else min(max_tokens, model.context_length - longest)
    told: dict[str, Any] = {"sampler": sampler, "max_tokens": max(room, 0), "draw": draw}
    for ids in session.text(**told, visual_contrast=contrast):
        for row, token in zip(session.rows, ids, strict=True):
            if token in model.ends:
                row.stopped = "end"
        yield ids


class Speech:
    """Ids of an answer -> its text piece by piece. A piece is held while its last character is incomplete;
    decoding starts with the ids of the piece before, since some tokenizers drop a space at the beginning."""

    def __init__(self, processor: PretrainedProcessor) -> None:
        self.processor = processor
        self.ids: list[int] = []
        self.before, self.told = 0, 0  # where the piece told last begins and ends

    def hear(self, token: int) -> str:
        """The text that one more id completes, "" for none."""
        self.ids.append(token)
        return self._piece(hold=True)

    def flush(self) -> str:
        """What is held."""
        return self._piece(hold=False)

    def _piece(self, hold: bool) -> str:
        known = self.processor.text(self.ids[self.before : self.told])
        text = self.processor.text(self.ids[self.before :])
        if len(text) <= len(known) or (hold and text.endswith(UNFINISHED)):
            return ""
        self.before, self.told = self.told, len(self.ids)
        return text[len(known) :]
