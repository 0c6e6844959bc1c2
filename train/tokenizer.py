"""Training of visual tokenizers: one plain loop for every kind.

Losses: pixels at every map that the pass reconstructs (against the image averaged to that size), the tie
between vectors and codes, and optionally features and a discriminator (`tokenizer_losses.py`). Remedies
against collapse: restarts of unused codes (`code_restarts.py`), or a codebook whose rows share weights
(`tokenizers/codebook.py`). The learning rate warms up, holds and falls linearly (arXiv 2509.10140).
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unified.tokenizers.losses import Perceptual
from unified.tokenizers.visual import Moment, TrainableTokenizer, TrainingPass
from unified.train.code_restarts import RestartConfig, Restarts, books_of, first_shapes, restarts_of
from unified.train.code_usage import Window, usage_by_scale
from unified.train.optimiser import BETAS, check_optimiser, muon
from unified.train.processes import ALONE, Processes
from unified.train.tokenizer_losses import LossConfig, Losses
from unified.train.tokenizer_state import Saving, State

from unified.finite import check_tree
from unified.precision import autocast

__all__ = [
    "AnnealingConfig",
    "LossConfig",
    "RestartConfig",
    "Surroundings",
    "TokenizerTrainingConfig",
    "Window",
    "train_tokenizer",
    "usage_by_scale",
]

Measure = Callable[[Any, int], dict[str, Any]]  # the tokenizer and the step -> what is added to a record


@dataclass(frozen=True, kw_only=True)
class AnnealingConfig:
    """Factor on the learning rate: linear up over `warmup` steps, 1 for the share `hold` of the rest, linear
    to `final`."""

    warmup: int = 20
    hold: float = 0.3
    final: float = 0.01

    def __post_init__(self) -> None:
        if self.warmup < 0 or not 0 <= self.hold <= 1 or not 0 <= self.final <= 1:
            raise ValueError("warmup must not be negative; hold and final lie in [0, 1]")

    def factor(self, step: int, steps: int) -> float:
        """Factor at `step` of `steps`, both from 0."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        progress = (step - self.warmup) / max(1, steps - 1 - self.warmup)
        fall = max(0.0, progress - self.hold) / max(1e-9, 1 - self.hold)
        return 1 - (1 - self.final) * fall


@dataclass(frozen=True, kw_only=True)
class TokenizerTrainingConfig:
    """`draws` random maps per step beside the full one, where the tokenizer allows any; `average` > 0 is the
    decay of a running mean of the weights, which replaces them at the end; `bf16`: convolutions in bfloat16
    (codes and losses stay in float32); `decoder_only`: encoder and codes stay as they start (with a shortcut:
    clusters of patches), so that the decoder learns from codes that stand still; `restarts` None leaves dead
    codes dead."""

    steps: int = 200
    learning_rate: float = 1e-3
    clip: float = 1.0
    draws: int = 2
    average: float = 0.0
    bf16: bool = False
    decoder_only: bool = False
    optimiser: str = "adamw"
    log_every: int = 50
    losses: LossConfig = field(default_factory=LossConfig)
    annealing: AnnealingConfig = field(default_factory=AnnealingConfig)
    restarts: RestartConfig | None = field(default_factory=RestartConfig)

    def __post_init__(self) -> None:
        check_tree(self)
        if self.steps < 1 or self.log_every < 1 or self.draws < 0:
            raise ValueError("steps and log_every must be at least 1, draws at least 0")
        check_optimiser(self.optimiser)
        if self.learning_rate <= 0 or self.clip <= 0 or not 0 <= self.average < 1:
            raise ValueError("learning_rate and clip must be positive, average lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a training is given beside images: a `perceptual` distance, a `teacher` (images -> maps of
    features [B, C, h, w]), the other `processes`, and what is measured of the tokenizer for every record."""

    perceptual: Perceptual | None = None
    teacher: Callable[[Tensor], Tensor] | None = None
    processes: Processes = ALONE
    measure: Measure | None = None


NOTHING = Surroundings()


def train_tokenizer(
    tokenizer: TrainableTokenizer,
    batches: Iterable[Tensor],
    config: TokenizerTrainingConfig,
    *,
    generator: torch.Generator,
    perceptual: Perceptual | None = None,
    log: Path | None = None,
    saving: Saving | None = None,
    given: Surroundings = NOTHING,
) -> list[dict[str, Any]]:
    """Train in place on batches of images [B, 3, H, W] in [-1, 1], or of clips where the tokenizer takes
    these; return one record per `log_every` steps.

    A record holds the terms of the loss and, by map size, usage and perplexity of the codes over the steps
    since the last one; `log` gets the same, one JSON object a line. `generator` (CPU) decides maps and
    restarts; a finite `batches` is not repeated: ValueError if it ends early. `perceptual` defaults to
    RandomPyramid. With `saving` an interrupted training goes on as if it had not been: `batches` must then
    start at batch `saving.step()`. Of several processes each is given its share of every batch; the first one
    writes.
    """
    run = _Run(tokenizer, config, generator, perceptual or given.perceptual, given)
    begun = saving.restore(run.state, log if run.first else None) if saving else 0
    step = begun - 1
    if run.restarts and config.restarts and not begun:
        seen = list(itertools.islice(batches, config.restarts.first))
        batches = itertools.chain(seen, batches)
        run.start(seen)
    tokenizer.train()
    for step, images in enumerate(itertools.islice(batches, config.steps - begun), start=begun):
        rate = config.learning_rate * config.annealing.factor(step, config.steps)
        terms = run.step(images, step, rate)
        if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
            run.record(step + 1, rate, terms, log)
        if saving and run.first and (step + 1) % saving.every == 0:
            saving.save(run.state, step + 1)
    if step + 1 < config.steps:
        raise ValueError(
            f"the images ended after {step + 1} of {config.steps} steps: give an endless iterator"
        )
    if run.mean is not None:
        tokenizer.load_state_dict(run.mean.state_dict())
    tokenizer.eval()
    return run.state.records


class _Run:
    """One training and all that changes in it."""

    def __init__(
        self,
        tokenizer: Any,
        config: TokenizerTrainingConfig,
        generator: torch.Generator,
        perceptual: Perceptual | None,
        given: Surroundings,
    ) -> None:
        self.tokenizer, self.config, self.generator, self.given = tokenizer, config, generator, given
        self.processes, self.first = given.processes, given.processes.rank == 0
        self.seed = generator.initial_seed()
        if config.decoder_only:
            _freeze_all_but_decoder(tokenizer)
        self.parameters = [p for p in tokenizer.parameters() if p.requires_grad]
        self.optimiser = _optimiser(tokenizer, config)
        device = self.parameters[0].device
        self.losses = Losses(config.losses, perceptual, config.learning_rate, device, self.processes)
        self.restarts: list[Restarts] = []
        if config.restarts:
            self.restarts = restarts_of(tokenizer, config.restarts, self.optimiser, generator)
        self.mean = copy.deepcopy(tokenizer) if config.average else None
        self.window = Window(tokenizer.codes)
        self.state = State(
            tokenizer, self.optimiser, self.losses, self.restarts, self.mean, self.window, [], generator
        )

    def start(self, batches: Sequence[Tensor]) -> None:
        """The first codes, from the vectors of first batches."""
        assert self.config.restarts is not None
        found = []
        for images in batches:
            drawn = self.tokenizer.training_shapes(images, self.config.draws, self.generator)
            shapes = first_shapes(self.tokenizer, images, drawn, self.config.restarts.sides)
            with torch.no_grad():
                result = self.tokenizer.training_pass(images, shapes, 0.0, self._moment(images, 0))
            found.append([self.processes.gather(vectors) for vectors in result.candidates])
        for restarts in self.restarts:
            restarts.start(found)
        if self.mean is not None:
            self.mean.load_state_dict(self.tokenizer.state_dict())

    def step(self, images: Tensor, step: int, rate: float) -> dict[str, float]:
        """One step of the optimiser; the terms of its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        shapes = self.tokenizer.training_shapes(images, self.config.draws, self.generator)
        with autocast(images.device, enabled=self.config.bf16):
            moment = self._moment(images, step)
            result = self.tokenizer.training_pass(images, shapes, self.config.losses.entropy, moment)
        total, terms = self.losses(result, images, step, rate)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.processes.average_gradients(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        self.optimiser.step()
        self._settle()
        ids = [self.processes.gather(item) for item in result.ids]
        self.window.add(shapes, ids)
        moved = self._restart(ids, result, step)
        if self.mean is not None:
            _average(self.mean, self.tokenizer, self.config.average, moved)
        return terms

    def record(self, step: int, rate: float, terms: dict[str, float], log: Path | None) -> None:
        """Adds a record to the log."""
        terms = self.processes.mean(terms)
        found: dict[str, Any] = {"step": step, "rate": rate, **terms, "scales": self.window.report()}
        if self.given.measure is not None and self.first:
            shown = self.tokenizer if self.mean is None else self.mean
            shown.eval()
            found |= self.given.measure(shown, step)
            self.tokenizer.train()
        self.state.records.append(found)
        _write(log if self.first else None, found)

    def _moment(self, images: Tensor, step: int) -> Moment:
        teacher = self.given.teacher
        with torch.no_grad():
            features = None if teacher is None else teacher(images)
        return Moment(
            step=step,
            steps=self.config.steps,
            features=features,
            noise=_seeded(self.seed, step, self.processes.rank + 1),
            shared=_seeded(self.seed, step, 0),
            gather=self.processes.gather,
        )

    def _settle(self) -> None:
        """Running averages are those of all processes."""
        if self.processes.count > 1:
            self.processes.average_buffers(self.tokenizer)
            getattr(self.tokenizer, "settle", lambda: None)()

    def _restart(self, ids: Sequence[Tensor], result: TrainingPass, step: int) -> list[Tensor | None]:
        """The mask of moved codes of every table."""
        if not self.restarts or self.config.decoder_only:
            return []
        candidates = [self.processes.gather(vectors) for vectors in result.candidates]
        return [each.update(ids, candidates, step, self.config.steps) for each in self.restarts]


def _seeded(*numbers: int) -> torch.Generator:
    seed = int(np.random.SeedSequence([number % 2**63 for number in numbers]).generate_state(1)[0])
    return torch.Generator().manual_seed(seed)


def _freeze_all_but_decoder(tokenizer: Any) -> None:
    tokenizer.requires_grad_(False)
    for part in (tokenizer.decoder, tokenizer.post_quant_conv):
        part.requires_grad_(True)


def _optimiser(tokenizer: Any, config: TokenizerTrainingConfig) -> torch.optim.Optimizer:
    if config.optimiser == "adamw":
        groups = _groups(tokenizer)
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=BETAS, weight_decay=0.0)
    named = tokenizer.named_parameters()
    return muon(named, _is_inner, config.learning_rate, 0.0)


def _groups(tokenizer: Any) -> list[dict[str, Any]]:
    """Parameters by the factor on their learning rate (`learning_rates` of a tokenizer, by the first letters
    of their names)."""
    factors: dict[str, float] = getattr(tokenizer, "learning_rates", dict)()
    found: dict[float, list[Any]] = {}
    for name, parameter in tokenizer.named_parameters():
        if parameter.requires_grad:
            factor = next((value for first, value in factors.items() if name.startswith(first)), 1.0)
            found.setdefault(factor, []).append(parameter)
    return [{"params": params, "factor": factor} for factor, params in found.items()]


def _is_inner(name: str) -> bool:
    """Weights between the first and the last of a network."""
    return "coder." in name and "conv_out" not in name and "shortcut" not in name


@torch.no_grad()
def _average(mean: Any, live: Any, decay: float, moved: list[Tensor | None]) -> None:
    """Running mean of the weights; codes that have just moved start anew."""
    for old, new in zip(mean.parameters(), live.parameters(), strict=True):
        old.lerp_(new, 1 - decay)
    for old, new in zip(mean.buffers(), live.buffers(), strict=True):
        old.copy_(new)
    if any(mask is not None for mask in moved):
        for old, new, mask in zip(books_of(mean), books_of(live), moved, strict=True):
            if mask is not None:
                old.weight[mask] = new.weight[mask]


def _write(log: Path | None, record: dict[str, Any]) -> None:
    if log is None:
        return
    log = Path(log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
