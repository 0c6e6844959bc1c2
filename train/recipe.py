"""What a recipe says: a tree of frozen dataclasses, saved as JSON beside the results of every run.

A recipe is a function in `train/recipes/` that returns one of `TextTokenizerRecipe`, `VisualTokenizerRecipe`
and `ModelRecipe`. Everything that decides the result is in the tree; where and on how many machines it runs
is not.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unified.tasks.registry import TASKS, check_options
from unified.tasks.sample import check_split
from unified.tokenizers.vq import VQConfig
from unified.train.optimiser import check_optimiser
from unified.train.select import check_selection
from unified.train.tokenizer import TokenizerTrainingConfig

from unified.objectives import build_objective

KINDS = ("text", "action", "image")


@dataclass(frozen=True, kw_only=True)
class Source:
    """`samples` samples of a task; `weight` is its share of the pictures or texts where a tokenizer is
    trained (stages of a model have weights of their own)."""

    task: str
    samples: int = 1000
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"unknown task {self.task!r}: choose one of {', '.join(sorted(TASKS))}")
        if self.samples < 1 or self.weight <= 0:
            raise ValueError(f"{self.task}: samples must be at least 1 and weight positive")
        check_options(self.task, self.options)


@dataclass(frozen=True, kw_only=True)
class ObjectiveChoice:
    """An objective of `unified.objectives` by name; `options` are fields of its configuration."""

    name: str = "cross_entropy"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        build_objective(self.name, self.options)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of training.

    `mixture`: share of the ids that each source gets; `mixture_end`: the shares at the end, reached linearly
    (a curriculum). A step is `rows` rows of `length` ids, whatever the number of processes; at most
    `micro_rows` of them are run at once. `learning_rate` warms up over `warmup` steps and falls along a
    cosine to `final` of itself. `trains`: names from `unified.train.select`. `condition_dropout`: share of
    samples with a drawn image that lose the user's words, for guidance. `cut`: share of samples ending with a
    drawn image that end where it is written: nothing reads it any more but the end of the turn, and a third
    of a drawing's ids are saved. `coarse`: by source, the share of samples whose images are learned up to the
    map of side 4 alone, which says what is where; the backbone skips the rest. `balance`: between every code
    (0) and every map (1) of an image counting the same. `kind_weights`, `task_weights`: factors on the loss,
    1 where not given.
    `average` > 0: decay of the running mean of the weights. `samples`: share of every source's samples that
    the stage needs, the first ones: it can begin while `prepare` makes the rest.
    `adapter`: rank of LoRA. `optimiser`: "adamw" or "muon". `objective`: what is minimised.
    """

    name: str = "main"
    mixture: Mapping[str, float]
    mixture_end: Mapping[str, float] = field(default_factory=dict)
    steps: int = 1000
    rows: int = 16
    length: int = 1024
    micro_rows: int = 8
    optimiser: str = "adamw"
    learning_rate: float = 1e-3
    warmup: int = 100
    final: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    trains: tuple[str, ...] = ("all",)
    adapter: int = 8
    condition_dropout: float = 0.1
    cut: float = 0.0
    coarse: Mapping[str, float] = field(default_factory=dict)
    balance: float = 0.0
    kind_weights: Mapping[str, float] = field(default_factory=dict)
    task_weights: Mapping[str, float] = field(default_factory=dict)
    samples: float = 1.0
    average: float = 0.999
    bf16: bool = True
    gradient_checkpointing: bool = False
    objective: ObjectiveChoice = field(default_factory=ObjectiveChoice)

    def __post_init__(self) -> None:
        for name in ("steps", "rows", "length", "micro_rows", "adapter"):
            _at_least(name, getattr(self, name), 1)
        if self.warmup < 0 or self.learning_rate <= 0 or self.clip <= 0 or self.weight_decay < 0:
            raise ValueError("learning_rate and clip must be positive, warmup and weight_decay not negative")
        for name in ("condition_dropout", "cut", "balance", "final"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name, share in self.coarse.items():
            if name not in {**self.mixture, **self.mixture_end} or not 0 <= share <= 1:
                raise ValueError(f"coarse gives sources of the mixture shares in [0, 1], got {name}: {share}")
        if not 0 < self.samples <= 1:
            raise ValueError(f"samples must lie in (0, 1], got {self.samples}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must lie in [0, 1), got {self.average}")
        if not self.name or "/" in self.name:
            raise ValueError(f"a stage needs a name without '/', got {self.name!r}")
        _check_weights("mixture", self.mixture)
        if self.mixture_end:
            _check_weights("mixture_end", self.mixture_end)
        for kind in self.kind_weights:
            if kind not in KINDS:
                raise ValueError(f"kind_weights names {kind!r}: the kinds are {', '.join(KINDS)}")
        check_selection(self.trains)
        check_optimiser(self.optimiser)

    def shares(self, step: int) -> dict[str, float]:
        """The share of every source at a step: they sum to 1."""
        progress = step / max(self.steps - 1, 1) if self.mixture_end else 0.0
        names = dict.fromkeys([*self.mixture, *self.mixture_end])
        mixed = {
            name: (1 - progress) * self.mixture.get(name, 0.0) + progress * self.mixture_end.get(name, 0.0)
            for name in names
        }
        return {name: weight / sum(mixed.values()) for name, weight in mixed.items()}


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The decoder: a small Qwen3-VL text decoder of this size or, with `pretrained` (a folder or hub name),
    the text decoder of that model with its weights. `attention`: "by_block" (FlexAttention, for GPUs),
    "by_sample" (the fastest on processors), "auto" (one of these, and SDPA for a pretrained decoder), or what
    transformers knows. `mlp`: inner width of its networks (0: 8/3 of the width). `references`,
    `copies`, `transition` (channels; 0: none) and `grid` choose the extras of the default model; `extras`
    gives any of `UnifiedConfig.extras`, by name, besides or in their place."""

    width: int = 256
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 0
    pretrained: str = ""
    head: str = "categorical"
    attention: str = "auto"
    references: bool = True
    copies: bool = True
    transition: int = 0
    grid: bool = True
    extras: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "kv_heads"):
            _at_least(name, getattr(self, name), 1)
        for name in ("mlp", "transition"):
            _at_least(name, getattr(self, name), 0)

    def chosen_extras(self, merged: bool) -> dict[str, Mapping[str, Any]]:
        """`UnifiedConfig.extras`. Slots have states of their own where 2 x 2 codes are `merged`."""
        flags = {
            "reference": self.references,
            "copy_gate": self.copies,
            "grid": self.grid,
            "own_state": merged,
        }
        chosen: dict[str, Mapping[str, Any]] = {name: {} for name, on in flags.items() if on}
        if self.transition:
            chosen["transition"] = {"channels": self.transition}
        return {**chosen, **self.extras}


@dataclass(frozen=True, kw_only=True)
class TextTokenizerRecipe:
    """Byte-level BPE of `size` ids from the texts of the sources; 256 ids are plain bytes."""

    name: str = "text_tokenizer"
    seed: int = 0
    size: int = 1024
    sources: tuple[Source, ...] = ()

    def __post_init__(self) -> None:
        _at_least("size", self.size, 256)
        if self.size > 256 and not self.sources:
            raise ValueError("a tokenizer of more than 256 ids needs sources to learn from")


@dataclass(frozen=True, kw_only=True)
class VisualTokenizerRecipe:
    """One picture of every sample of the sources is used; `batch` pictures a step, drawn by weight.
    `held_out` pictures of each source's validation split are measured at the end. `start`: folder of a
    tokenizer whose networks are taken over; its codebook, of any size, is drawn anew, but where `training`
    has no restarts it is kept."""

    name: str = "visual_tokenizer"
    seed: int = 0
    start: str = ""
    size: int = 64
    batch: int = 32
    held_out: int = 200
    save_every: int = 100
    sources: tuple[Source, ...]
    network: VQConfig = field(default_factory=VQConfig)
    training: TokenizerTrainingConfig = field(default_factory=TokenizerTrainingConfig)

    def __post_init__(self) -> None:
        for name in ("batch", "held_out", "save_every"):
            _at_least(name, getattr(self, name), 1)
        if not self.sources:
            raise ValueError("a visual tokenizer needs sources of pictures")
        if self.size % self.network.encoder.stride:
            raise ValueError(f"size {self.size} must be a multiple of {self.network.encoder.stride}")


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """A model with its tokenizers, data and stages. `text` and `visual`: a recipe, trained first, or a folder
    that one has written. `start`: folder of a model to go on from; parts that it lacks are fresh. `sides`:
    longer sides of the maps before the last; `frame_sides`, if given, those of frames. `merge`: see
    `Vocabulary`. `save_every`, `log_every`, `sheet_every` in steps (0: no sheets); so many checkpoints as
    `keep` says stay."""

    name: str
    seed: int = 0
    text: TextTokenizerRecipe | str
    visual: VisualTokenizerRecipe | str
    sources: tuple[Source, ...]
    stages: tuple[Stage, ...]
    start: str = ""
    model: ModelShape = field(default_factory=ModelShape)
    sides: tuple[int, ...] = (1, 2, 4, 6)
    frame_sides: tuple[int, ...] | None = None
    max_side: int = 16
    merge: int = 0
    split: str = "train"
    log_every: int = 20
    save_every: int = 200
    sheet_every: int = 500
    keep: int = 2
    export_bf16: bool = True

    def __post_init__(self) -> None:
        _at_least("save_every", self.save_every, 1)
        _at_least("log_every", self.log_every, 1)
        _at_least("keep", self.keep, 2)  # one to fall back on
        check_split(self.split)
        if not self.stages:
            raise ValueError("a recipe needs at least one stage")
        tasks = [source.task for source in self.sources]
        if len(set(tasks)) < len(tasks):
            raise ValueError("sources names a task twice: add up its samples")
        for number, stage in enumerate(self.stages):
            for name in (*stage.mixture, *stage.mixture_end, *stage.task_weights):
                if name not in tasks:
                    raise ValueError(f"stages.{number} mixes {name!r}, which is not among the sources")
        if len({stage.name for stage in self.stages}) < len(self.stages):
            raise ValueError("stages need names that differ")


Recipe = TextTokenizerRecipe | VisualTokenizerRecipe | ModelRecipe


def to_json(recipe: Any) -> str:
    """The tree as JSON, with the class of every recipe in it."""
    return json.dumps(_plain(recipe), indent=2, ensure_ascii=False) + "\n"


def completed(stored: Any, recipe: Any) -> Any:
    """The parsed JSON of a recipe, as `recipe` would write it: fields that did not exist when it was stored
    get their defaults."""
    if isinstance(stored, dict) and dataclasses.is_dataclass(recipe):
        added = {item.name: _default(item) for item in dataclasses.fields(recipe) if item.name not in stored}
        whole = stored | {name: value for name, value in added.items() if value is not dataclasses.MISSING}
        return {name: completed(value, getattr(recipe, name, None)) for name, value in whole.items()}
    if isinstance(stored, list) and isinstance(recipe, tuple) and len(stored) == len(recipe):
        return [completed(*pair) for pair in zip(stored, recipe, strict=True)]
    return stored


def _default(item: dataclasses.Field[Any]) -> Any:
    """A field's default as plain data; MISSING if it has none."""
    made = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
    return made if made is dataclasses.MISSING else _plain(made)


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
        kind = type(value).__name__
        return {"recipe": kind, **fields} if kind.endswith("Recipe") else fields
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _check_weights(name: str, weights: Mapping[str, float]) -> None:
    if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise ValueError(f"{name} needs sources with weights that are not negative and not all zero")
