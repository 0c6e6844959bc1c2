"""A tiny language model between a masked encoder and a masked decoder of latents (Harmon, arXiv 2503.21979),
on the ground: what the experiments of Harmon and UniPic share.

Prompts are a word for the task and nine words; images stand in them at ids of their own. Captions are said
greedily. Generation and understanding take turns, step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from unified.eval.lab.experiment import Numbers, Trial
from unified.eval.lab.ground.latents import (
    CHANNELS,
    SIDE,
    TOKENS,
    Scale,
    batch_of,
    begin,
    drawn,
    in_blocks,
    masked_batch,
    scored,
)
from unified.eval.lab.ground.reading import words_right
from unified.eval.lab.ground.scenes import CAPTION, WORDS, caption
from unified.eval.lab.ground.training import Course, Trained, train
from unified.tasks.scenes.scene import Scene

from unified.checkpoints.harmon.network import Harmon, Prompts, language_model
from unified.checkpoints.harmon.sampling import sample
from unified.checkpoints.mar.network import MAR, MARConfig, masked_loss
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.decoding.noise import PositionNoise
from unified.heads.denoiser import Denoiser
from unified.orders.masked_schedule import shuffled_orders

DRAW, ASK, EDIT, REPEAT, NONE, IMAGE = range(len(WORDS), len(WORDS) + 6)  # ids after the words
GRID = (SIDE, SIDE)
BUFFER, REPEATS, DROPPED, RATE = 4, 2, 0.1, 3e-3
SPAN = BUFFER + TOKENS  # rows of an image in a prompt
SETTINGS = MaskedDecoding(steps=16, sections=(1,) * 19 + (0,))

Reader = Callable[[Harmon, Tensor, Tensor], Tensor]  # tokens [B, 64, C], pictures -> image rows [B, m, T]


def new_harmon(trial: Trial, semantic: int = 0, kind: type[Harmon] = Harmon) -> Harmon:
    """Of an eighth of a base model's inner size, half of it before and half of it after the language
    model."""
    size = trial.ground.sizes.model.part(0.5, 0.5)
    half = max(1, size.layers // 2)
    torch.manual_seed(trial.seed)
    llm = language_model(
        {
            "vocab_size": IMAGE + 1,
            "hidden_size": size.width,
            "intermediate_size": 2 * size.width,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.heads,
            "pad_token_id": None,
        }
    )
    config = MARConfig(
        channels=CHANNELS,
        tokens=TOKENS,
        classes=1,
        width=size.width,
        buffer=BUFFER,
        depth=(half, half),
        heads=size.heads,
        hidden=4 * size.width,
    )
    model = kind(llm, MAR(config, Denoiser(size.width, CHANNELS, 2 * size.width, 3)), semantic)
    begin(model.mar)
    return model


def prompts_of(task: int, words: Tensor, image: int = 0) -> Prompts:
    """[task, nine words, `image` places of an image] for captions [B, 9]."""
    head = torch.full((len(words), 1), task)
    ids = torch.cat([head, words, torch.full((len(words), image), IMAGE)], dim=1)
    return Prompts(ids, torch.ones_like(ids, dtype=torch.bool), None, IMAGE)


# Losses -----------------------------------------------------------------------------------------------------


def diffusion_loss(
    model: Harmon, prompts: Prompts, tokens: Tensor, generator: torch.Generator, source: Tensor | None = None
) -> Tensor:
    """Of tokens [B, 64, C], of which the same number is masked in every row."""
    mask, _ = masked_batch(len(tokens), generator, DROPPED)
    hidden = model(prompts, tokens, mask, GRID, source)
    count = REPEATS * hidden.shape[0] * TOKENS
    steps = torch.randint(1000, (count,), generator=generator)
    noise = torch.randn(count, CHANNELS, generator=generator)
    return masked_loss(model.mar.diffloss, hidden, tokens, mask, steps, noise)


def drawing_loss(model: Harmon, tokens: Tensor, captions: Tensor, generator: torch.Generator) -> Tensor:
    """Of tokens under captions, some of which are left out."""
    dropped = torch.rand(len(captions), 1, generator=generator) < DROPPED
    return diffusion_loss(model, prompts_of(DRAW, captions.masked_fill(dropped, NONE)), tokens, generator)


def caption_logits(model: Harmon, rows: Tensor, captions: Tensor) -> Tensor:
    """[B, 9, V] of captions [B, 9] after image rows [B, m, T]."""
    head = torch.tensor([[ASK, *[IMAGE] * rows.shape[1]]]).expand(len(rows), -1)
    ids = torch.cat([head, captions], dim=1)
    told = Prompts(ids, torch.ones_like(ids, dtype=torch.bool), rows, IMAGE)
    return model.logits(told)[:, rows.shape[1] : rows.shape[1] + CAPTION]


def caption_loss(model: Harmon, rows: Tensor, captions: Tensor) -> Tensor:
    logits = caption_logits(model, rows, captions)
    return nn.functional.cross_entropy(logits.flatten(0, 1), captions.flatten())


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """What is trained on: tokens [N, 64, C], pictures [N, 3, 32, 32] and captions [N, 9] of training scenes;
    how pictures are read, None for drawing alone."""

    tokens: Tensor
    pictures: Callable[[Tensor], Tensor]
    captions: Tensor
    reader: Reader | None


def taught(
    trial: Trial, model: Harmon, lessons: Lessons, share: float, what: str, batch: float = 1.0
) -> Trained:
    """As many steps of drawing with a reader as without, each followed by one of understanding; `batch`: a
    share of the ground's."""
    sizes = trial.ground.sizes
    turns, count = 1 + (lessons.reader is not None), max(2, round(batch * sizes.batch))

    def loss(step: int) -> Tensor:
        chosen, generator = batch_of(trial, step, count)
        chosen = chosen % len(lessons.tokens)
        tokens, captions = lessons.tokens[chosen], lessons.captions[chosen]
        if lessons.reader is None or step % 2 == 0:
            return drawing_loss(model, tokens, captions, generator)
        return caption_loss(model, lessons.reader(model, tokens, lessons.pictures(chosen)), captions)

    course = Course(steps=turns * sizes.steps(share), rate=RATE, what=f"{what}, seed {trial.seed}")
    done = train(model, loss, course, trial.work, in_blocks)
    model.eval()
    return done


# What it does -----------------------------------------------------------------------------------------------


@torch.no_grad()
def pictures_drawn(trial: Trial, model: Harmon, scale: Scale, scenes: Sequence[Scene]) -> Numbers:
    """What drawings for the captions of scenes show."""

    def made_by(captions: Tensor, noise: PositionNoise) -> Tensor:
        orders = shuffled_orders(len(captions), (TOKENS,), trial.seed)
        return sample(model, prompts_of(DRAW, captions), orders, GRID, noise, SETTINGS)

    return scored(trial, scale, scenes, drawn(trial, scenes, made_by))


@torch.no_grad()
def words_said(model: Harmon, reader: Reader, tokens: Tensor, pictures: Tensor, captions: Tensor) -> float:
    """The share of words of captions [N, 9] that it says of images."""
    said = []
    for part in torch.arange(len(tokens)).split(64):
        rows, words = (
            reader(model, tokens[part], pictures[part]),
            torch.zeros(len(part), CAPTION, dtype=torch.long),
        )
        for place in range(CAPTION):  # what stands at later places is not seen yet
            words[:, place] = caption_logits(model, rows, words)[:, place, : len(WORDS)].argmax(dim=-1)
        said.append(words)
    return words_right(torch.cat(said), captions)["words"]


def shared(scale: float) -> Reader:
    """The encoder that draws reads too; so much of the words' gradient reaches it."""
    from unified.backbone.gradient_scale import scaled_gradient

    def read(model: Harmon, tokens: Tensor, pictures: Tensor) -> Tensor:
        none = torch.zeros(tokens.shape[:2], dtype=torch.bool)
        return scaled_gradient(model.span(model.encode(tokens, none, GRID)), scale)

    return read


def captions_of(scenes: Sequence[Scene]) -> Tensor:
    return torch.tensor([caption(one) for one in scenes])


def levels(pictures: np.ndarray) -> Tensor:
    """uint8 [N, 32, 32, 3] -> [N, 3, 32, 32] in [-1, 1]."""
    return torch.from_numpy(pictures).movedim(-1, 1).float() / 127.5 - 1
