"""What a stage of VARGPT's training says, and which parameters it trains.

| part | parameters | published names |
|---|---|---|
| language | decoder layers and head of the language model | model, lm_head |
| vision | Qwen2-VL's vision tower | visual |
| decoder | Infinity's transformer behind the language model | vargpt_gen |
| projectors | between the two | image_gen_projector, image_gen_projector_out |
| start | what steers the decoder's modulations | sos_embedding |

The released training numbers its settings: 0 and 3 train decoder, projectors and start, 1 projectors and
start, 2 language, 4 all but vision, 5 all. The visual tokenizer is never trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn
from unified.train.stage import BatchConfig, ObjectiveChoice, OptimisationConfig, at_least, check_shares

from unified.checkpoints.infinity_schedules import RESOLUTIONS
from unified.finite import check_tree
from unified.objectives import build_objective

PARTS: dict[str, tuple[str, ...]] = {
    "language": ("language.model.language_model.", "language.lm_head."),
    "vision": ("language.model.visual.",),
    "decoder": ("decoder.",),
    "projectors": ("image_gen_projector.", "image_gen_projector_out."),
    "start": ("sos_embedding.",),
}
GENERATION = ("decoder", "projectors", "start")


@dataclass(frozen=True, kw_only=True)
class VARGPTData:
    """What a stage sees: samples of the recipe's sources by their shares in `mixture`, or `pairs`, files of
    preferences (`unified.tasks.outside.preference`). A picture to be drawn is scaled until its shorter side
    is `zoom` times the drawing's, and a random part of it is taken. `null`: share of drawings whose decoder
    is steered by the learnt vector of no text. `prompts`: whether the words of prompts are learned too, as in
    the released code, or answers alone."""

    mixture: Mapping[str, float] = field(default_factory=dict)
    pairs: tuple[str, ...] = ()
    zoom: float = 1.125
    null: float = 0.1
    prompts: bool = False

    def __post_init__(self) -> None:
        if bool(self.mixture) == bool(self.pairs):
            raise ValueError("a stage learns from a mixture of sources or from files of pairs: give one")
        if self.mixture and (min(self.mixture.values()) < 0 or sum(self.mixture.values()) <= 0):
            raise ValueError("mixture needs sources with weights that are not negative and not all zero")
        if self.zoom < 1:
            raise ValueError(f"zoom must be at least 1, got {self.zoom}")
        check_shares(self, "null")


def released_steps() -> OptimisationConfig:
    """AdamW without decay of weights; the released warm-up is a tenth of the steps."""
    return OptimisationConfig(learning_rate=5e-5, warmup=100, final=0.0, weight_decay=0.0)


@dataclass(frozen=True, kw_only=True)
class VARGPTStage:
    """`steps` optimiser steps on `trains` (the table above). `resolution`: pixels of drawings, by its name in
    `infinity_schedules`. `image`: weight of the loss of drawings beside that of text, for cross-entropy.
    `objective`: "cross_entropy", or with pairs one that compares them, such as "dpo"; it is given the
    log-probabilities of drawings alone. In `batch`, `length` is the longest sample in ids; `rows` and
    `micro_rows` count samples, or pairs."""

    name: str = "main"
    steps: int = 1000
    data: VARGPTData
    batch: BatchConfig = field(default_factory=lambda: BatchConfig(rows=16, length=8192, micro_rows=1))
    optimisation: OptimisationConfig = field(default_factory=released_steps)
    trains: tuple[str, ...] = GENERATION
    resolution: str = "0.06M"
    objective: ObjectiveChoice = field(default_factory=ObjectiveChoice)
    kind: ClassVar[str] = "vargpt"

    def __post_init__(self) -> None:
        check_tree(self)
        at_least("steps", self.steps, 1)
        if not self.name or "/" in self.name:
            raise ValueError(f"a stage needs a name without '/', got {self.name!r}")
        unknown = [name for name in self.trains if name not in PARTS]
        if unknown or not self.trains:
            raise ValueError(f"trains must name any of {', '.join(PARTS)}, got {', '.join(self.trains)}")
        if self.resolution not in RESOLUTIONS:
            raise ValueError(f"unknown resolution {self.resolution!r}: use one of {', '.join(RESOLUTIONS)}")
        if self.optimisation.optimiser != "adamw":
            raise ValueError(f"stage {self.name!r}: VARGPT is trained with adamw")
        paired = build_objective(self.objective.name, self.objective.options).needs_pairs
        if paired != bool(self.data.pairs):
            needs = "files of pairs" if paired else "a mixture of sources"
            raise ValueError(f"stage {self.name!r}: {self.objective.name} learns from {needs}")


def select_parts(model: nn.Module, names: Sequence[str]) -> int:
    """Freeze all but the named parts, in place; returns the number of trainable parameters. The norms `ln_q`,
    which are never applied, stay frozen."""
    prefixes = tuple(prefix for name in names for prefix in PARTS[name])
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith(prefixes) and not (
            name.startswith("image_gen_projector") and ".ln_q." in name
        )
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
