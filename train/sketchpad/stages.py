"""The published stages: words with the vision tower frozen, then the vision head with all else frozen.

`text`: cross-entropy of the answer's words; decoder layers, output matrix (untied first) and connector train.
`latents`: regression of the features of one true picture a sample; the head trains. Half of the samples of
the first stage are turned into text alone: of a copy each time, so that the share stays (in the published
code it grows from epoch to epoch). Differently from the published code, pictures that the answer holds
already are read as the model itself would have drawn them, latent by latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unified.tasks.mazes.traces import Trace
from unified.train.sketchpad.augmentation import Reconstruction
from unified.train.sketchpad.rows import (
    IGNORED,
    Batch,
    Messages,
    batch_of,
    lay_row,
    pictures_of,
    text_only,
    up_to,
)

from unified.finite import check_count, check_number
from unified.heads.latents import LATENT_LOSSES, latent_loss
from unified.vision_language.processor import PretrainedProcessor
from unified.vision_language.sketchpad.model import Sketchpad

STAGES = ("text", "latents")


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """`text_only`: share of the samples of the stage `text` that lose their pictures. `loss`: of latents.
    Published: learning rate 1e-4, cosine, weight decay 0.01, gradients clipped at 1; 2 epochs of 2 rows for
    `text`, 5 of 8 for `latents`."""

    stage: str = "text"
    loss: str = "l1"
    text_only: float = 0.5
    learning_rate: float = 1e-4
    epochs: float = 2.0
    rows: int = 2
    accumulation: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"unknown stage {self.stage!r}: choose one of {', '.join(STAGES)}")
        if self.loss not in LATENT_LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}: choose one of {', '.join(LATENT_LOSSES)}")
        check_number("text_only", self.text_only, 0, 1)
        check_number("epochs", self.epochs, 0)
        check_number("learning_rate", self.learning_rate, 0)
        check_count("rows", self.rows, 1)
        check_count("accumulation", self.accumulation, 1)
        check_count("seed", self.seed)


class Conversation(Protocol):
    """A question and an answer with `steps` pictures, which are loaded when it is asked for `messages`."""

    @property
    def steps(self) -> int: ...

    def messages(self) -> Messages: ...


@dataclass(frozen=True)
class Held:
    """A conversation in memory."""

    held: Messages

    @property
    def steps(self) -> int:
        return len(pictures_of(self.held[1:]))

    def messages(self) -> Messages:
        return self.held


@dataclass(frozen=True)
class OnDisk:
    """A trace whose pictures are cut to their middle square at a side of `size`, None for as they are."""

    trace: Trace
    size: int | None = None

    @property
    def steps(self) -> int:
        return len(self.trace.answer_images)

    @property
    def pictures(self) -> int:
        """Those of question and answer."""
        return len(self.trace.question_images) + self.steps

    def messages(self) -> Messages:
        return self.trace.messages(self.size)


@dataclass(frozen=True)
class Example:
    """A conversation; `step`: the number of the picture of its answer to be predicted, None in the stage
    `text`. `number`: of the example, which seeds its augmentation."""

    conversation: Conversation
    step: int | None
    number: int


def examples(config: StageConfig, conversations: Sequence[Conversation]) -> list[Example]:
    """What one epoch shows: each conversation in the stage `text`, each picture of an answer in `latents`.
    ValueError where there is nothing to learn from."""
    if config.stage == "text":
        found = [Example(one, None, number) for number, one in enumerate(conversations)]
    else:
        pairs = [(one, step) for one in conversations for step in range(one.steps)]
        found = [Example(*pair, number) for number, pair in enumerate(pairs)]
    if not found:
        raise ValueError("there is no trace" + (" with a picture in its answer" if conversations else ""))
    return found


class SketchTraining(nn.Module):
    """A model and its vision head in one stage; `forward` is what a trainer calls. All that does not train is
    frozen here."""

    def __init__(
        self,
        pad: Sketchpad,
        processor: PretrainedProcessor,
        config: StageConfig,
        reconstruction: Reconstruction | None = None,
    ) -> None:
        super().__init__()
        self.pad, self.processor, self.options = pad, processor, config
        self.reconstruction = reconstruction
        self.pretrained, self.head = pad.reader.pretrained, pad.head
        self.visits = 0  # calls so far, so that epochs differ in their augmentation
        freeze(pad, config.stage)

    def train(self, mode: bool = True) -> SketchTraining:
        """The vision tower, and in the stage `latents` the whole model, stay in evaluation mode."""
        super().train(mode)
        self.pretrained.train(mode and self.options.stage == "text")
        return self

    def forward(self, samples: Sequence[Example]) -> dict[str, Tensor]:
        """The mean loss of some examples."""
        batch = self.prepared(samples)
        loss = text_loss if self.options.stage == "text" else self._latent_loss
        return {"loss": loss(self.pad, batch)}

    def prepared(self, samples: Sequence[Example]) -> Batch:
        """The examples, augmented, as a batch."""
        self.visits += self.training
        rows = [self._row(sample) for sample in samples]
        return batch_of(self.pad, rows)

    def _row(self, sample: Example) -> Any:
        drawing, messages = sample.step is not None, sample.conversation.messages()
        if sample.step is not None:
            messages = up_to(messages, sample.step)
        rng = np.random.default_rng([self.options.seed, sample.number, self.visits])
        if self.training and not drawing and rng.random() < self.options.text_only:
            messages = text_only(messages)
        elif self.training and self.reconstruction is not None:
            messages = self.reconstruction(messages, rng, spare_last=drawing)
        return lay_row(self.pad, self.processor, messages, draw_last=drawing)

    def _latent_loss(self, pad: Sketchpad, batch: Batch) -> Tensor:
        with torch.no_grad():
            embeds, hidden = pad.states(batch.ids, batch.values)
        assert batch.target is not None
        with torch.no_grad():
            target = pad.connector.norm(batch.target)
        generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + self.visits)
        found = pad.predict(embeds, hidden, batch.prefix, batch.drawn, generator)
        return latent_loss(pad.connector, found, target, self.options.loss)


def text_loss(pad: Sketchpad, batch: Batch) -> Tensor:
    """Mean cross-entropy, in nats, of the labels given what stands before each."""
    return words_loss(pad, batch.labels, pad.states(batch.ids, batch.values)[1])


def words_loss(pad: Sketchpad, labels: Tensor, hidden: Tensor) -> Tensor:
    """The same of labels [B, T] and last hidden states [B, T, D]."""
    wanted = labels[:, 1:]
    asked = wanted != IGNORED
    logits = pad.reader.all_logits(hidden[:, :-1][asked])
    return F.cross_entropy(logits.float(), wanted[asked])


# Parameters -------------------------------------------------------------------------------------------------


def freeze(pad: Sketchpad, stage: str) -> None:
    """Mark what trains in a stage, and nothing else."""
    model: Any = pad.reader.pretrained
    model.requires_grad_(False)
    pad.head.requires_grad_(stage == "latents")
    if stage == "text":
        untie(model)
        pad.reader.decoder.layers.requires_grad_(True)
        pad.reader.decoder.norm.requires_grad_(True)
        model.get_output_embeddings().requires_grad_(True)
        model.get_submodule(pad.family.projector).requires_grad_(True)


def untie(model: Any) -> None:
    """Give the output matrix weights of its own if it shares those of the token embeddings, which stay
    frozen."""
    output, words = model.get_output_embeddings(), model.get_input_embeddings()
    if output.weight is words.weight:
        output.weight = nn.Parameter(words.weight.detach().clone())
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
