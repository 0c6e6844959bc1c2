"""Teaches a model a word for what a few pictures show, or their style and content apart.

`train_subject`: ARBooth (arXiv 2504.02612). Simplified: low-rank changes of keys, values and feed-forward
networks in the place of full ones of cross-attention (a decoder of one stream has none) and feed-forward
networks; the word is spelt by the tokenizer's own ids, no vectors are new; what the frozen model draws of the
class is drawn once, before training; both losses are one step. `train_style`: CSD-VAR (arXiv 2507.13984).
Simplified: the memories alone are trained, no embeddings, so that there is nothing to project. Test:
tests/train/adapters/test_subjects.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from unified.train.adapters.rows import Rows, row_of, scores
from unified.train.adapters.tuning import TuningConfig, tune

from unified.apps.adapters import MEMORIES, STYLE, SUBJECT, build_part, write_adapter
from unified.core_model import CoreModel
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.low_rank import LowRank, LowRankConfig, tuned
from unified.objectives.content_style import ContentStyle, ContentStyleConfig
from unified.objectives.distillation import PriorDistillation
from unified.objectives.objective import Progress
from unified.objectives.scale_weighted import ScaleWeighted, ScaleWeightedConfig
from unified.objectives.scores import Scores
from unified.stream.processor import Processor

PROMPTS = ("{}", "a {}", "Draw a {}.", "a picture of a {}")
STYLE_PROMPT = "a {0} object in {0} style"
EARLY = 8 / 13  # share of the maps that weigh 1, later ones half (published: eight of thirteen)
STYLE_STEPS = 3  # maps of the style, as released


@dataclass(frozen=True, kw_only=True)
class SubjectConfig:
    """`word` for the subject, `noun` for its class, `prompts` with {} in the place of both. `prior`: images
    of the class that the frozen model draws, 0 for training without prior distillation."""

    word: str
    noun: str = "object"
    prompts: tuple[str, ...] = PROMPTS
    prior: int = 16
    changes: LowRankConfig = field(default_factory=LowRankConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)

    def __post_init__(self) -> None:
        if not self.word.strip():
            raise ValueError("the word for the subject is empty")
        for prompt in self.prompts:
            if prompt.count("{}") != 1:
                raise ValueError(f"a prompt has {{}} where the subject is named, once, got {prompt!r}")


def train_subject(
    model: CoreModel,
    processor: Processor,
    pictures: Sequence[np.ndarray],
    config: SubjectConfig,
    out: Path,
    log: Callable[[str], None] = print,
) -> list[float]:
    """Train on pictures uint8 [H, W, 3] of one size and write a file; the loss of every step: nats a code,
    and half of the divergence from the frozen model on what that draws of the class."""
    rng, plan = np.random.default_rng(config.tuning.seed), _rows(model, processor, pictures[:1], [""]).plan
    early = ScaleWeighted(ScaleWeightedConfig(weights=(1.0,) * ceil(EARLY * plan.count), rest=0.5))
    model.eval()
    name = f"{config.word} {config.noun}"
    with torch.random.fork_rng(), tuned(model, config.changes) as changes:
        torch.manual_seed(config.tuning.seed)
        _begin(changes, config.tuning.seed)
        prior = _Prior(model, processor, config, plan.shapes, changes) if config.prior else None

        def loss_of(step: int) -> Tensor:
            shown = [pictures[int(n)] for n in rng.integers(len(pictures), size=config.tuning.rows)]
            prompts = [config.prompts[int(n)] for n in rng.integers(len(config.prompts), size=len(shown))]
            rows = _rows(model, processor, shown, [prompt.format(name) for prompt in prompts])
            loss = early.loss(scores(model, rows), None, {"rows": len(rows.ids)}).loss
            return loss if prior is None else loss + prior.loss(model, rng)

        losses = tune([changes.parameters], loss_of, config.tuning, log)
    told = {"word": config.word, "class": config.noun}
    told_of = {"rank": config.changes.rank, "alpha": config.changes.alpha}
    write_adapter(out, model, SUBJECT, changes, {**told, **told_of})
    return losses


def _begin(changes: LowRank, seed: int) -> None:
    """First matrices that the seed decides alone."""
    rng = torch.Generator().manual_seed(seed)
    for first in changes.parameters[::2]:
        with torch.no_grad():
            first.copy_(torch.randn(first.shape, generator=rng) * first.shape[1] ** -0.5)


class _Prior:
    """What the frozen model draws of the class, with its scores of it."""

    def __init__(
        self, model: CoreModel, processor: Processor, config: SubjectConfig, shapes: Any, changes: LowRank
    ) -> None:
        self.rows, self.count, self.objective = [], config.tuning.rows, PriorDistillation()
        asked = [config.prompts[n % len(config.prompts)].format(config.noun) for n in range(config.prior)]
        prompts = [processor.encode([{"role": "user", "content": words}], prompt=True) for words in asked]
        with torch.no_grad(), changes.off():
            for start in range(0, len(prompts), self.count):
                part = prompts[start : start + self.count]
                session = Session(model, rows=len(part), seed=config.tuning.seed + start)
                session.feed(part)
                session.draw(shapes, order=processor.order, sampler=Sampler())
                rows = Rows.of(session.streams, model)
                self.rows.append((rows, scores(model, rows)))

    def loss(self, model: CoreModel, rng: np.random.Generator) -> Tensor:
        rows, reference = self.rows[int(rng.integers(len(self.rows)))]
        return self.objective.loss(scores(model, rows), reference, {"rows": len(rows.ids)}).loss


def _rows(model: CoreModel, processor: Processor, shown: Sequence[np.ndarray], words: Sequence[str]) -> Rows:
    lists = [row_of(processor, said, picture) for said, picture in zip(words, shown, strict=True)]
    return Rows.of(lists, model)


# Style and content ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StyleConfig:
    """`word` for style and content; keys of each memory (`length`), in the first `layers` (published: 1)."""

    word: str
    length: int = 8
    layers: int = 1
    tuning: TuningConfig = field(default_factory=lambda: TuningConfig(learning_rate=1e-2))

    def __post_init__(self) -> None:
        if not self.word.strip():
            raise ValueError("the word for the style is empty")


def memories_for(model: CoreModel, maps: int, config: StyleConfig) -> dict[str, dict[str, Any]]:
    """Options of the memory of the style, seen by the first maps, and of the content, seen by the others.
    ValueError for images of one map, or more layers than there are."""
    if maps < 2:
        raise ValueError("style and content are told apart by the maps of an image: this model writes one")
    if not 1 <= config.layers <= model.layer_count:
        raise ValueError(f"layers must be 1 to {model.layer_count}, got {config.layers}")
    text, border = model.backbone.config.get_text_config(), min(STYLE_STEPS, maps - 1)
    heads = text.num_attention_heads
    shared = {
        "length": config.length,
        "heads": heads,
        "kv_heads": text.num_key_value_heads,
        "head_width": getattr(text, "head_dim", None) or text.hidden_size // heads,
        "layers": list(range(config.layers)),
    }
    spans: dict[str, dict[str, Any]] = {
        MEMORIES[0]: {"first": 0, "last": border},
        MEMORIES[1]: {"first": border},
    }
    return {name: {**shared, **span} for name, span in spans.items()}


def train_style(
    model: CoreModel,
    processor: Processor,
    pictures: Sequence[np.ndarray],
    config: StyleConfig,
    out: Path,
    log: Callable[[str], None] = print,
) -> list[float]:
    """Train both memories, in turns, and write a file; the loss of every step, of style and of content by
    turns."""
    rng, words = np.random.default_rng(config.tuning.seed), STYLE_PROMPT.format(config.word)
    plan = _rows(model, processor, pictures[:1], [words]).plan
    options = memories_for(model, plan.count, config)
    with torch.random.fork_rng():
        torch.manual_seed(config.tuning.seed)
        parts = nn.ModuleDict({name: build_part("scale_memory", own) for name, own in options.items()})
    parts.to(model.device)
    border = options[MEMORIES[0]]["last"]
    objective = ContentStyle(ContentStyleConfig(steps=tuple(range(border))))
    frozen = [p for p in model.parameters() if p.requires_grad]
    model.eval().requires_grad_(False)

    def loss_of(step: int) -> Tensor:
        shown = [pictures[int(n)] for n in rng.integers(len(pictures), size=config.tuning.rows)]
        rows = _rows(model, processor, shown, [words] * len(shown))
        batch = objective.prepare({"rows": len(rows.ids)}, Progress(step=step, seed=config.tuning.seed))
        found: Scores = scores(model, rows, list(parts.values()))  # type: ignore[arg-type]
        return objective.loss(found, None, batch).loss

    try:
        losses = tune([list(parts[name].parameters()) for name in MEMORIES], loss_of, config.tuning, log)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    write_adapter(out, model, STYLE, parts, {"word": config.word, **options})
    return losses
