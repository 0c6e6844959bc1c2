"""What a recipe says: a tree of frozen dataclasses, saved as JSON beside the results of every run
(`train/stored.py`).

A recipe is a function in `train/recipes/` that returns one of `TextTokenizerRecipe`, `VisualTokenizerRecipe`
and `ModelRecipe`. Everything that decides the result is in the tree; where and on how many machines it runs
is not. Every dataclass has at most 8 fields; `train/aliases.py` keeps the names that fields had before they
were grouped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unified.tasks.registry import TASKS, check_options
from unified.tasks.sample import check_split
from unified.tokenizers.vq import VQConfig
from unified.train.preference.stage import PreferenceStage
from unified.train.stage import Stage, at_least
from unified.train.tokenizer import TokenizerTrainingConfig
from unified.train.vargpt.stage import VARGPTStage

from unified.finite import check_tree
from unified.heads import LATENT_HEADS, check_head_name
from unified.orders import check_order

if TYPE_CHECKING:
    AnyStage = Any  # its `kind` says which
else:
    AnyStage = Stage | PreferenceStage


@dataclass(frozen=True, kw_only=True)
class Source:
    """`samples` samples of a task; `weight` is its share of the pictures or texts where a tokenizer is
    trained (stages of a model have weights of their own). `name`: what stages call it, "" for the task's
    name: a task may occur more than once. `content`: hash of the data on disk that it reads, "" for whatever
    they are: if others lie there, they are refused."""

    task: str
    samples: int = 1000
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    content: str = ""

    def __post_init__(self) -> None:
        check_tree(self)
        if self.task not in TASKS:
            raise ValueError(f"unknown task {self.task!r}: choose one of {', '.join(sorted(TASKS))}")
        if self.samples < 1 or self.weight <= 0:
            raise ValueError(f"{self.task}: samples must be at least 1 and weight positive")
        if "/" in self.name or "." in self.name:
            raise ValueError(f"the name of a source has no '/' and no '.', got {self.name!r}")
        check_options(self.task, self.options)

    @property
    def label(self) -> str:
        """What stages, logs and sheets call it."""
        return self.name or self.task


# The model --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DecoderShape:
    """A small Qwen3-VL text decoder of this size or, with `pretrained` (a folder or hub name), the text
    decoder of that model with its weights. `mlp`: inner width of its networks (0: 8/3 of the width).
    `attention`: "by_block" (FlexAttention, for GPUs), "by_sample" (the fastest on processors), "auto" (one of
    these, and SDPA for a pretrained decoder), or what transformers knows."""

    width: int = 256
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 0
    pretrained: str = ""
    attention: str = "auto"

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "kv_heads"):
            at_least(name, getattr(self, name), 1)
        at_least("mlp", self.mlp, 0)


@dataclass(frozen=True, kw_only=True)
class DefaultExtras:
    """Which extras of the default model there are; `transition`: its channels (0: none)."""

    references: bool = True
    copies: bool = True
    transition: int = 0
    grid: bool = True

    def __post_init__(self) -> None:
        at_least("transition", self.transition, 0)

    def chosen(self, merged: bool) -> dict[str, Mapping[str, Any]]:
        """Options of the chosen ones by their names in `UnifiedConfig.extras`. Slots have states of their own
        where 2 x 2 codes are `merged`."""
        flags = {
            "reference": self.references,
            "copy_gate": self.copies,
            "grid": self.grid,
            "own_state": merged,
        }
        chosen: dict[str, Mapping[str, Any]] = {name: {} for name, on in flags.items() if on}
        return {**chosen, "transition": {"channels": self.transition}} if self.transition else chosen


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A decoder, the head of image codes by its name, and extras: `extras` gives any of
    `UnifiedConfig.extras`, by name, besides the chosen default ones or in their place. `head_options`: of a
    continuous head (`LatentHeadConfig`); what the tokenizer decides is filled in."""

    decoder: DecoderShape = field(default_factory=DecoderShape)
    head: str = "categorical"
    default_extras: DefaultExtras = field(default_factory=DefaultExtras)
    extras: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    head_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_head_name(self.head, self.head_options)

    @property
    def continuous(self) -> bool:
        """Whether the head writes latents, and has no likelihood."""
        return self.head in LATENT_HEADS

    def chosen_extras(self, merged: bool) -> dict[str, Mapping[str, Any]]:
        """`UnifiedConfig.extras` where 2 x 2 codes are `merged` or not."""
        return {**self.default_extras.chosen(merged), **self.extras}


# Recipes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TextTokenizerRecipe:
    """Byte-level BPE of `size` ids from the texts of the sources; 256 ids are plain bytes."""

    name: str = "text_tokenizer"
    seed: int = 0
    size: int = 1024
    sources: tuple[Source, ...] = ()

    def __post_init__(self) -> None:
        at_least("size", self.size, 256)
        if self.size > 256 and not self.sources:
            raise ValueError("a tokenizer of more than 256 ids needs sources to learn from")


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """One picture of `size` pixels a side of every sample of the sources is used; `batch` pictures a step,
    drawn by weight. `held_out` pictures of each source's validation split are measured at the end."""

    sources: tuple[Source, ...]
    size: int = 64
    batch: int = 32
    held_out: int = 200

    def __post_init__(self) -> None:
        for name in ("batch", "held_out"):
            at_least(name, getattr(self, name), 1)
        if not self.sources:
            raise ValueError("a visual tokenizer needs sources of pictures")


@dataclass(frozen=True, kw_only=True)
class VisualTokenizerRecipe:
    """A visual tokenizer, trained on pictures; a checkpoint every `save_every` steps. `start`: folder of a
    tokenizer whose networks are taken over; its codebook, of any size, is drawn anew, but where `training`
    has no restarts it is kept."""

    name: str = "visual_tokenizer"
    seed: int = 0
    start: str = ""
    pictures: Pictures
    network: VQConfig = field(default_factory=VQConfig)
    training: TokenizerTrainingConfig = field(default_factory=TokenizerTrainingConfig)
    save_every: int = 100

    def __post_init__(self) -> None:
        check_tree(self)
        at_least("save_every", self.save_every, 1)
        stride = self.network.encoder.stride
        if self.pictures.size % stride:
            raise ValueError(f"size {self.pictures.size} must be a multiple of {stride}")


@dataclass(frozen=True, kw_only=True)
class ModelTokenizers:
    """`text` and `visual`: a recipe, trained first, or a folder that one has written. An image becomes maps
    of codes: `sides`: longer sides of the maps before the last; `frame_sides`, if given, those of frames;
    `max_side`: longest side of any. `merge`: see `Vocabulary`. `order`: in which images are written, "" for
    the tokenizer's own."""

    text: TextTokenizerRecipe | str
    visual: VisualTokenizerRecipe | str
    sides: tuple[int, ...] = (1, 2, 4, 6)
    frame_sides: tuple[int, ...] | None = None
    max_side: int = 16
    merge: int = 0
    order: str = ""

    def __post_init__(self) -> None:
        if self.order:
            check_order(self.order)


@dataclass(frozen=True, kw_only=True)
class ModelData:
    """The samples that stages mix, each source named once, of one `split`."""

    sources: tuple[Source, ...]
    split: str = "train"

    def __post_init__(self) -> None:
        check_split(self.split)
        labels = [source.label for source in self.sources]
        if len(set(labels)) < len(labels):
            raise ValueError("two sources have one name: add up their samples, or give each a name")


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """What a run writes: `log_every`, `save_every`, `sheet_every` in steps (0: no sheets); so many
    checkpoints as `keep` says stay. `export_bf16`: the finished model is saved in bfloat16."""

    log_every: int = 20
    save_every: int = 200
    sheet_every: int = 500
    keep: int = 2
    export_bf16: bool = True

    def __post_init__(self) -> None:
        at_least("save_every", self.save_every, 1)
        at_least("log_every", self.log_every, 1)
        at_least("keep", self.keep, 2)  # one to fall back on


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """A model with its tokenizers, data and stages. `start`: a model to go on from, a folder, a hub name or
    "shipped"; parts that it lacks are fresh. Without `tokenizers` and `model`, both None, tokenizers and
    shape are those of `start`."""

    name: str
    seed: int = 0
    start: str = ""
    tokenizers: ModelTokenizers | None = None
    data: ModelData
    model: ModelShape | None = field(default_factory=ModelShape)
    stages: tuple[AnyStage, ...]
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        check_tree(self)
        if not self.stages:
            raise ValueError("a recipe needs at least one stage")
        if (self.tokenizers is None or self.model is None) and not self.start:
            raise ValueError("a recipe without tokenizers and model needs `start`, whose they are")
        tasks = [source.label for source in self.data.sources]
        for number, stage in enumerate(self.stages):
            for name in stage.sources():
                if name not in tasks:
                    raise ValueError(f"stages.{number} mixes {name!r}, which is not among the sources")
        if len({stage.name for stage in self.stages}) < len(self.stages):
            raise ValueError("stages need names that differ")


@dataclass(frozen=True, kw_only=True)
class PreferenceRecipe:
    """Preference tuning of a finished model: that of the folder `start`, "" for the shipped one."""

    name: str = "prefer"
    seed: int = 0
    start: str = ""
    stages: tuple[PreferenceStage, ...]
    output: OutputConfig = field(default_factory=lambda: OutputConfig(log_every=1, sheet_every=0))

    def __post_init__(self) -> None:
        check_tree(self)
        if not self.stages:
            raise ValueError("a recipe needs at least one stage")
        if len({stage.name for stage in self.stages}) < len(self.stages):
            raise ValueError("stages need names that differ")


@dataclass(frozen=True, kw_only=True)
class VARGPTRecipe:
    """Stages of VARGPT-v1.1, that of the folder or hub name `start`, on samples of `data` and files of
    pairs."""

    name: str = "vargpt"
    seed: int = 0
    start: str = ""
    data: ModelData
    stages: tuple[VARGPTStage, ...]
    output: OutputConfig = field(default_factory=lambda: OutputConfig(sheet_every=0))

    def __post_init__(self) -> None:
        check_tree(self)
        if not self.stages:
            raise ValueError("a recipe needs at least one stage")
        names = [source.label for source in self.data.sources]
        for number, stage in enumerate(self.stages):
            for name in stage.data.mixture:
                if name not in names:
                    raise ValueError(f"stages.{number} mixes {name!r}, which is not among the sources")
        if len({stage.name for stage in self.stages}) < len(self.stages):
            raise ValueError("stages need names that differ")


Recipe = TextTokenizerRecipe | VisualTokenizerRecipe | ModelRecipe | PreferenceRecipe | VARGPTRecipe
RECIPE_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (TextTokenizerRecipe, VisualTokenizerRecipe, ModelRecipe, PreferenceRecipe, VARGPTRecipe)
}
