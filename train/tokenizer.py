"""Training of visual tokenizers: one plain loop for the single codebook and for the residual one.

Losses: pixels at every map that the pass reconstructs (against the image averaged to that size), the tie
between vectors and codes, and optionally features and a discriminator. Two remedies against collapse, which
hits the 1 x 1 and 2 x 2 maps first because they see so few vectors: codes that no scale uses are moved onto
vectors that lie far from every code, drawn evenly from all scales; or a codebook whose rows share weights
(`tokenizers/codebook.py`). The learning rate warms up, holds and falls linearly (arXiv 2509.10140).
`tests/train/test_tokenizer.py` shows
the effect of restarts.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unified.tokenizers.codebook import PlainCodebook
from unified.tokenizers.losses import (
    PatchDiscriminator,
    Perceptual,
    RandomPyramid,
    discriminator_loss,
    generator_loss,
)
from unified.tokenizers.quantise import k_means, nearest, usage
from unified.tokenizers.resize import Shape, area
from unified.tokenizers.schedules import ladder
from unified.tokenizers.visual import TrainableTokenizer
from unified.train.optimiser import BETAS, check_optimiser, muon
from unified.train.tokenizer_state import Saving, State

from unified.finite import check_tree
from unified.precision import autocast


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms beside pixels (weight 1) and the tie between vectors and codes (weight
    `quantiser`)."""

    pixels: Literal["l1", "l2"] = "l2"
    quantiser: float = 1.0
    entropy: float = 0.0
    perceptual: float = 0.0
    adversarial: float = 0.0
    adversarial_start: int = 1000  # steps before the discriminator counts; it learns from the first

    def __post_init__(self) -> None:
        if self.pixels not in ("l1", "l2"):
            raise ValueError(f"pixels must be 'l1' or 'l2', got {self.pixels!r}")
        if min(self.quantiser, self.entropy, self.perceptual, self.adversarial, self.adversarial_start) < 0:
            raise ValueError("weights of losses must not be negative")


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
class RestartConfig:
    """The codes start from the vectors of `first` batches, of the full map and of coarser ones of the longer
    `sides` (none: of random ones): one batch is drawn from, more are clustered (k-means, `rounds`). Every
    `every` steps, until the share `until` of training, move codes used less than `threshold` of an even
    share."""

    first: int = 1
    sides: tuple[int, ...] = ()
    rounds: int = 10
    every: int = 10
    threshold: float = 0.05
    until: float = 0.7
    memory: float = 0.95  # of the running use, per step

    def __post_init__(self) -> None:
        if (
            min(self.first, self.every, self.rounds, *self.sides) < 1
            or not 0 < self.memory < 1
            or not 0 <= self.until <= 1
        ):
            raise ValueError(
                "first, every, rounds and sides must be at least 1, memory lie in (0, 1), until in [0, 1]"
            )


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


def train_tokenizer(
    tokenizer: TrainableTokenizer,
    batches: Iterable[Tensor],
    config: TokenizerTrainingConfig,
    *,
    generator: torch.Generator,
    perceptual: Perceptual | None = None,
    log: Path | None = None,
    saving: Saving | None = None,
) -> list[dict[str, Any]]:
    """Train in place on batches of images [B, 3, H, W] in [-1, 1]; return one record per `log_every` steps.

    A record holds the terms of the loss and, by map size, usage and perplexity of the codes over the steps
    since the last one; `log` gets the same, one JSON object a line. `generator` (CPU) decides maps and
    restarts; a finite `batches` is not repeated: ValueError if it ends early. `perceptual` defaults to
    RandomPyramid. With `saving` an interrupted training goes on as if it had not been: `batches` must then
    start at batch `saving.step()`.
    """
    if config.decoder_only:
        _freeze_all_but_decoder(tokenizer)
    parameters = [p for p in tokenizer.parameters() if p.requires_grad]
    optimiser = _optimiser(tokenizer, config)
    losses = _Losses(config.losses, perceptual, config.learning_rate, parameters[0].device)
    restarts = Restarts(tokenizer, config.restarts, optimiser, generator) if config.restarts else None
    mean = copy.deepcopy(tokenizer) if config.average else None
    window = Window(tokenizer.codes)
    records: list[dict[str, Any]] = []
    state = State(tokenizer, optimiser, losses, restarts, mean, window, records, generator)
    begun = saving.restore(state, log) if saving else 0
    step = begun - 1
    if restarts and config.restarts and not begun:
        seen = list(itertools.islice(batches, config.restarts.first))
        batches = itertools.chain(seen, batches)
        restarts.start(seen, [_first_shapes(tokenizer, images, config, generator) for images in seen])
        if mean is not None:
            mean.load_state_dict(tokenizer.state_dict())
    tokenizer.train()
    for step, images in enumerate(itertools.islice(batches, config.steps - begun), start=begun):
        rate = config.learning_rate * config.annealing.factor(step, config.steps)
        _set_rate(optimiser, rate)
        shapes = tokenizer.training_shapes(images, config.draws, generator)
        with autocast(images.device, enabled=config.bf16):
            result = tokenizer.training_pass(images, shapes, config.losses.entropy)
        total, terms = losses(result.images, images, result.loss, step, rate)
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        optimiser.step()
        window.add(shapes, result.ids)
        moving = not config.decoder_only
        moved = (
            restarts.update(result.ids, result.candidates, step, config.steps)
            if restarts and moving
            else None
        )
        if mean is not None:
            _average(mean, tokenizer, config.average, moved)
        if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
            records.append({"step": step + 1, "rate": rate, **terms, "scales": window.report()})
            _write(log, records[-1])
        if saving and (step + 1) % saving.every == 0:
            saving.save(state, step + 1)
    if step + 1 < config.steps:
        raise ValueError(
            f"the images ended after {step + 1} of {config.steps} steps: give an endless iterator"
        )
    if mean is not None:
        tokenizer.load_state_dict(mean.state_dict())
    tokenizer.eval()
    return records


def _first_shapes(
    tokenizer: TrainableTokenizer,
    images: Tensor,
    config: TokenizerTrainingConfig,
    generator: torch.Generator,
) -> Sequence[Shape]:
    """The maps whose vectors the first codes come from."""
    if config.restarts is None or not config.restarts.sides:
        return tokenizer.training_shapes(images, config.draws, generator)
    grid = (images.shape[2] // tokenizer.stride, images.shape[3] // tokenizer.stride)
    return ladder(grid, config.restarts.sides)


def _freeze_all_but_decoder(tokenizer: Any) -> None:
    tokenizer.requires_grad_(False)
    for part in (tokenizer.decoder, tokenizer.post_quant_conv):
        part.requires_grad_(True)


def _optimiser(tokenizer: Any, config: TokenizerTrainingConfig) -> torch.optim.Optimizer:
    if config.optimiser == "adamw":
        trained = [p for p in tokenizer.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=config.learning_rate, betas=BETAS, weight_decay=0.0)
    named = tokenizer.named_parameters()
    return muon(named, _is_inner, config.learning_rate, 0.0)


def _is_inner(name: str) -> bool:
    """Weights between the first and the last of a network."""
    return "coder." in name and "conv_out" not in name and "shortcut" not in name


class _Losses:
    """All terms of one step; trains the discriminator on the way."""

    def __init__(
        self, config: LossConfig, perceptual: Perceptual | None, rate: float, device: torch.device
    ) -> None:
        self.config = config
        self.perceptual = (perceptual or RandomPyramid().to(device)) if config.perceptual else None
        self.discriminator = PatchDiscriminator().to(device) if config.adversarial else None
        if self.discriminator is not None:
            self.optimiser = torch.optim.Adam(self.discriminator.parameters(), lr=rate, betas=(0.5, 0.9))

    def __call__(
        self, got: Sequence[Tensor], images: Tensor, quantiser: Tensor, step: int, rate: float
    ) -> tuple[Tensor, dict[str, float]]:
        """Reconstructions of any sizes, the images they come from -> (loss, its terms as numbers)."""
        got = [item.float() for item in got]
        targets = [_resized(images, item) for item in got]
        distance = F.l1_loss if self.config.pixels == "l1" else F.mse_loss
        terms = {"pixels": _mean(distance(a, b) for a, b in zip(got, targets, strict=True))}
        total = terms["pixels"] + self.config.quantiser * quantiser
        terms["quantiser"] = quantiser
        if self.perceptual is not None:
            terms["perceptual"] = _mean(self.perceptual(a, b) for a, b in zip(got, targets, strict=True))
            total = total + self.config.perceptual * terms["perceptual"]
        if self.discriminator is not None:
            terms["discriminator"] = self._train_discriminator(
                self.discriminator, got[-1].detach(), targets[-1], rate
            )
            terms["adversarial"] = generator_loss(self.discriminator(got[-1]))
            active = step >= self.config.adversarial_start
            total = total + self.config.adversarial * terms["adversarial"] * active
        terms["psnr"] = -10 * torch.log10(F.mse_loss(got[-1].clamp(-1, 1), targets[-1]) / 4)
        terms["loss"] = total
        return total, {name: float(value.detach()) for name, value in terms.items()}

    def _train_discriminator(self, critic: nn.Module, fake: Tensor, real: Tensor, rate: float) -> Tensor:
        _set_rate(self.optimiser, rate)
        loss = discriminator_loss(critic(real), critic(fake))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()


class Restarts:
    """Moves codes that no scale uses onto vectors that no code is near to. Needs a plain codebook."""

    def __init__(
        self,
        tokenizer: TrainableTokenizer,
        config: RestartConfig,
        optimiser: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> None:
        if not isinstance(tokenizer.table, PlainCodebook):
            raise ValueError("only a plain codebook can restart codes: set restarts to None")
        self.tokenizer, self.config, self.optimiser, self.generator = tokenizer, config, optimiser, generator
        self.use = torch.ones(tokenizer.codes, device=tokenizer.table.weight.device)  # 1 is an even share

    @torch.no_grad()
    def start(self, batches: Sequence[Tensor], shapes: Sequence[Sequence[Shape]]) -> None:
        """All codes from the vectors of first batches, so that none starts far away."""
        pairs = zip(batches, shapes, strict=True)
        candidates = [self.tokenizer.training_pass(*pair).candidates for pair in pairs]
        if len(candidates) == 1:
            self._move(torch.ones_like(self.use, dtype=torch.bool), candidates[0])
            return
        vectors = torch.cat([vectors for found in candidates for vectors in found]).float()
        weight = self.tokenizer.table.weight
        weight.copy_(k_means(vectors, len(weight), self.generator, self.config.rounds))

    @torch.no_grad()
    def update(
        self, ids: Sequence[Tensor], candidates: Sequence[Tensor], step: int, steps: int
    ) -> Tensor | None:
        """Count one step; return the mask [codes] of those moved, if it was time to."""
        counts = [item.flatten().bincount(minlength=len(self.use)) / item.numel() for item in ids]
        self.use.lerp_(torch.stack(counts).mean(0) * len(self.use), 1 - self.config.memory)
        if (step + 1) % self.config.every or step >= self.config.until * steps:
            return None
        dead = self.use < self.config.threshold
        if bool(dead.any()):
            self._move(dead, candidates)
        return dead

    def _move(self, dead: Tensor, candidates: Sequence[Tensor]) -> None:
        weight = self.tokenizer.table.weight
        count = int(dead.sum())
        share = -(-count // len(candidates))
        drawn = [self._far(vectors, share, self.tokenizer.codebook()) for vectors in candidates]
        rows = torch.cat(drawn)
        chosen = torch.randperm(len(rows), generator=self.generator)[:count].to(rows.device)
        weight[dead] = rows[chosen].to(weight.dtype)
        self.use[dead] = 1.0
        for moment in self.optimiser.state.get(weight, {}).values():
            if isinstance(moment, Tensor) and moment.shape == weight.shape:
                moment[dead] = 0.0

    def _far(self, vectors: Tensor, count: int, codebook: Tensor) -> Tensor:
        """`count` of `vectors` [N, D], drawn in proportion to the squared distance from the nearest code."""
        unit = F.normalize(vectors, dim=-1) if _is_unit(codebook) else vectors
        error = (unit - codebook[nearest(unit, codebook)]).square().sum(-1) + 1e-6
        return vectors[
            torch.multinomial(error.cpu(), count, replacement=True, generator=self.generator).to(
                vectors.device
            )
        ]


class Window:
    """Ids by map size since the last report."""

    def __init__(self, codes: int) -> None:
        self.codes = codes
        self.ids: dict[Shape, list[Tensor]] = {}

    def add(self, shapes: Sequence[Shape], ids: Sequence[Tensor]) -> None:
        for shape, item in zip(shapes, ids, strict=True):
            self.ids.setdefault((shape[0], shape[1]), []).append(item.flatten())

    def report(self) -> dict[str, dict[str, float]]:
        """By size "HxW": share of codes used, perplexity, and the number of ids these are of. Empties the
        window."""
        found = {}
        for (h, w), items in sorted(self.ids.items()):
            ids = torch.cat(items)
            used, perplexity = usage(ids, self.codes)
            found[f"{h}x{w}"] = {"usage": used, "perplexity": perplexity, "ids": len(ids)}
        self.ids = {}
        return found


@torch.no_grad()
def usage_by_scale(
    tokenizer: TrainableTokenizer, batches: Iterable[Tensor], shapes: Sequence[Shape]
) -> dict[str, dict[str, float]]:
    """Usage and perplexity by map size over held-out images, in the form of `Window.report`."""
    window = Window(tokenizer.codes)
    for images in batches:
        window.add(shapes, tokenizer.encode(images, shapes))
    return window.report()


def _is_unit(codebook: Tensor) -> bool:
    return bool(
        torch.allclose(codebook.norm(dim=-1), torch.ones(len(codebook), device=codebook.device), atol=1e-4)
    )


def _resized(images: Tensor, like: Tensor) -> Tensor:
    shape = (like.shape[2], like.shape[3])
    return images if tuple(images.shape[2:]) == shape else area(images, shape)


def _mean(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


@torch.no_grad()
def _average(mean: Any, live: Any, decay: float, moved: Tensor | None) -> None:
    """Running mean of the weights; codes that have just moved start anew."""
    for old, new in zip(mean.parameters(), live.parameters(), strict=True):
        old.lerp_(new, 1 - decay)
    for old, new in zip(mean.buffers(), live.buffers(), strict=True):
        old.copy_(new)
    if moved is not None:
        mean.table.weight[moved] = live.table.weight[moved]


def _write(log: Path | None, record: dict[str, Any]) -> None:
    if log is None:
        return
    log = Path(log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
