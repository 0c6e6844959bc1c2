"""How much memory a stage needs on each GPU, before it starts (`python -m unified.train memory RECIPE`).

Parameters, gradients and the optimiser's state follow from the shapes and from how they are cut, to the byte
(`tests/train/test_scale.py` compares with what processes hold). Activations are measured on the processor in
a model of one and of two layers, with one row of the stage's length that is full of drawn images, and
extended to all layers and rows: GPUs with other attention kernels differ. Not counted is what
lies only while a step runs: gathered layers, buckets of communication.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from unified.tokenizers.action import ActionTokenizer
from unified.train.build import first_model, own_attention
from unified.train.folders import bytes_or, load_visual, vocabulary_of
from unified.train.optimiser import splits
from unified.train.recipe import ModelRecipe, TextTokenizerRecipe, VisualTokenizerRecipe
from unified.train.select import select
from unified.train.sharded import without_weights
from unified.train.stage import Stage
from unified.train.stage_model import copies_reference
from unified.train.synthetic import SyntheticRows

from unified.config import UnifiedConfig
from unified.model import UnifiedModel
from unified.pretrained import find, load_processor
from unified.stream.vocabulary import Vocabulary

PERSISTED = 100_000  # DeepSpeed's default: smaller parameters stay whole under ZeRO 3
ALIGNED = 2  # ZeRO 1 and 2 fill a group up to so many elements a process


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`gpus` processes; `zero`: DeepSpeed's stage (0: plain data parallelism); or `fsdp` (FSDP2)."""

    gpus: int = 1
    zero: int = 0
    fsdp: bool = False

    def __post_init__(self) -> None:
        if self.gpus < 1 or self.zero not in range(4):
            raise ValueError(f"gpus must be at least 1, zero 0 to 3, got {self.gpus} and {self.zero}")
        if self.fsdp and self.zero:
            raise ValueError("--fsdp and --zero both cut the model to pieces: give one of them")

    @property
    def name(self) -> str:
        """For people."""
        how = "FSDP2" if self.fsdp else f"ZeRO {self.zero}" if self.zero else "data parallelism"
        return f"{self.gpus} x {how}"


@dataclass(frozen=True, kw_only=True)
class Held:
    """Bytes on the first process; `activations`: those that one micro-batch adds at its peak."""

    parameters: int
    gradients: int
    optimiser: int
    average: int = 0
    reference: int = 0
    activations: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Group:
    """Shapes of the parameters of one group of the optimiser."""

    shapes: tuple[tuple[int, ...], ...]

    @property
    def sizes(self) -> list[int]:
        """Elements of each."""
        return [math.prod(shape) for shape in self.shapes]


def planned(model: UnifiedModel, stage: Stage, plan: Plan) -> Held:
    """Bytes of everything but activations. `model`: on any device, with what is not trained frozen."""
    trained, frozen = (
        groups(model),
        Group(tuple(tuple(p.shape) for p in model.parameters() if not p.requires_grad)),
    )
    low = 2 if stage.batch.bf16 and plan.zero else 4  # DeepSpeed trains in bf16, others cast as they go
    whole = sum(map(sum, ([*group.sizes] for group in (*trained, frozen))))
    own = sum(shared(group, plan) for group in trained)
    held = {
        "average": 4 * own if stage.parameters.average else 0,
        "reference": low * whole if copies_reference(stage) else 0,
    }
    if plan.zero in (1, 2):
        padded = [ceil(sum(group.sizes), ALIGNED * plan.gpus) for group in trained]
        share = sum(padded) // plan.gpus
        return Held(
            parameters=low * (sum(padded) + sum(frozen.sizes)),
            gradients=low * sum(map(first_share, trained, padded, [plan.gpus] * len(padded))),
            optimiser=12 * share + 4 * len(trained),
            average=4 * sum(sum(group.sizes) for group in trained) if stage.parameters.average else 0,
            reference=held["reference"],
        )
    parameters = own + shared(frozen, plan)
    if plan.zero == 3:
        small = [n for group in (*trained, frozen) for n in group.sizes if n <= PERSISTED]
        parameters += sum(ceil(n, plan.gpus) for n in small)
        return Held(
            parameters=low * parameters, gradients=low * own, optimiser=12 * own + 4 * len(trained), **held
        )
    return Held(parameters=4 * parameters, gradients=4 * own, optimiser=states(model, stage, plan), **held)


def states(model: UnifiedModel, stage: Stage, plan: Plan) -> int:
    """Bytes of the states of optimisers that are cut like the parameters or not at all."""
    inner = splits(model, stage.optimisation.optimiser)
    found = 0
    for name, p in model.named_parameters():
        if p.requires_grad:
            share = shared(Group((tuple(p.shape),)), plan)
            found += 4 * share if name in inner else 8 * share + 4  # and the count of steps
    return found


def groups(model: nn.Module) -> list[Group]:
    """As the trainer makes them: matrices, which decay, and the rest."""
    from transformers import Trainer

    decays = set(Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]
    named = [(name in decays, tuple(p.shape)) for name, p in model.named_parameters() if p.requires_grad]
    return [Group(tuple(shape for decayed, shape in named if decayed is chosen)) for chosen in (True, False)]


def shared(group: Group, plan: Plan) -> int:
    """Elements that the first process holds of parameters that are cut, or all of them."""
    if plan.fsdp and plan.gpus > 1:  # whole rows
        return sum(math.ceil(shape[0] / plan.gpus) * math.prod(shape[1:]) for shape in group.shapes)
    if plan.zero == 3:
        return sum(ceil(n, plan.gpus) // plan.gpus for n in group.sizes)
    return sum(group.sizes)


def first_share(group: Group, padded: int, gpus: int) -> int:
    """Elements of the gradients that reach into the first process's part of a group: whole ones."""
    room, found = padded // gpus, 0
    for size in group.sizes:
        if found >= room:
            return found
        found += size
    return found + max(0, room - found)


def ceil(number: int, multiple: int) -> int:
    """The next multiple."""
    return -(-number // multiple) * multiple


# Models and batches -----------------------------------------------------------------------------------------


def vocabulary_for(recipe: ModelRecipe) -> Vocabulary:
    """That of a recipe's model, with tokenizers of the sizes that their recipes ask for."""
    chosen = recipe.tokenizers
    if recipe.start and (known := vocabulary_of(find(recipe.start))) is not None:
        return known
    assert chosen is not None  # else there is a start
    text, visual, action = chosen.text, chosen.visual, ActionTokenizer()
    return Vocabulary(
        text=text.size if isinstance(text, TextTokenizerRecipe) else len(bytes_or(text)),
        visual=visual.network.codes
        if isinstance(visual, VisualTokenizerRecipe)
        else load_visual(visual).codes,
        action=action.size,
        action_slots=action.slots,
        max_side=chosen.max_side,
        merge=chosen.merge,
    )


def model_for(recipe: ModelRecipe, stage: Stage, *, layers: int | None = None) -> UnifiedModel:
    """The model of a stage on the CPU, with fresh weights; of so many `layers` if given."""
    shape = recipe.model
    if shape is None:
        model = _like_start(recipe, layers)
    else:
        if layers is not None:
            shape = replace(shape, decoder=replace(shape.decoder, layers=layers))
        model = first_model(shape, vocabulary_for(recipe), recipe.seed)
    select(model, stage.parameters.trains, rank=stage.parameters.adapter)
    return model


def _like_start(recipe: ModelRecipe, layers: int | None) -> UnifiedModel:
    """A model of the shape of `start` with fresh weights."""
    config = start_config(recipe)
    config._attn_implementation = own_attention(config, "cpu")
    if layers is not None:
        backbone = {name: value for name, value in config.backbone.items() if name != "layer_types"}
        config.backbone = {**backbone, "num_hidden_layers": layers}
    return UnifiedModel(config)


def start_config(recipe: ModelRecipe) -> Any:
    """The configuration of the model that a recipe goes on from."""
    return UnifiedConfig.from_pretrained(find(recipe.start))


def layers_of(recipe: ModelRecipe) -> int:
    """Of the decoder, whether the recipe says it or the model that it goes on from."""
    if recipe.model is not None:
        return recipe.model.decoder.layers
    return int(start_config(recipe).backbone["num_hidden_layers"])


def sides_of(recipe: ModelRecipe) -> Sequence[int]:
    """The sides of the maps before the last, likewise."""
    if recipe.tokenizers is not None:
        return recipe.tokenizers.sides
    processor = load_processor(find(recipe.start))
    return processor.sides or [
        side for side, _ in processor.schedule((processor.vocabulary.max_side,) * 2)[:-1]
    ]


def activation_estimate(recipe: ModelRecipe, stage: Stage, rows: int) -> int:
    """Bytes that a micro-batch of `rows` adds, from one row through one and through two layers."""
    one, two = (
        activation_bytes(model_for(recipe, stage, layers=layers), recipe, stage, 1) for layers in (1, 2)
    )
    return rows * (one + (layers_of(recipe) - 1) * (two - one))


def activation_bytes(model: UnifiedModel, recipe: ModelRecipe, stage: Stage, rows: int) -> int:
    """Bytes that the allocator has handed out at the peak of a micro-batch of `rows`, above what lay there
    before: gradients were there already, as in all micro-batches of a step but the first."""
    from torch.profiler import ProfilerActivity, profile

    data = SyntheticRows(model.vocabulary, sides_of(recipe), stage.batch.length, rows)
    batch = data.collator(everywhere=False)([data[number] for number in range(rows)])
    given = {name: batch[name] for name in ("input_ids", "labels", "layout")}
    if stage.batch.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model.train()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=stage.batch.bf16):
            output = model(**given, return_logits=False)
        (-(output.log_probs * batch["weights"]).sum() / rows).backward()

    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        step()
    return peak(trace)


def peak(trace: Any) -> int:
    """The largest number of bytes handed out and not taken back, of a profile with memory."""
    events = trace.profiler.kineto_results.events()
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    return max(running(sorted(changes, key=lambda change: change[0])), default=0)


def running(changes: list[tuple[int, int]]) -> Iterator[int]:
    """Sums up to each change."""
    total = 0
    for _, size in changes:
        total += size
        yield total


# The command ------------------------------------------------------------------------------------------------


def stage_plan(recipe: ModelRecipe, stage: Any, plan: Plan) -> Held:
    """What a stage needs on each GPU, from its recipe alone. ValueError if its rows cannot be shared."""
    from unified.train.settings import micro_rows

    rows = micro_rows(stage, plan.gpus) * (2 if stage.kind == "preference" else 1)
    if plan.zero and stage.optimisation.optimiser == "muon":
        raise ValueError(
            f"stage {stage.name!r} uses muon, which DeepSpeed cannot cut: override its optimiser"
        )
    model: Any = without_weights(lambda: model_for(recipe, stage))
    return replace(planned(model, stage, plan), activations=activation_estimate(recipe, stage, rows))


def table(plan: Held, measured: Held | None) -> str:
    """Lines of names and bytes, what was measured beside them."""
    lines = [f"{'':14}{'planned':>16}" + (f"{'measured (CPU)':>18}" if measured else "")]
    for name in (*vars(plan), "total"):
        value = getattr(plan, name)
        beside = f"{getattr(measured, name):>18,}" if measured else ""
        lines.append(f"{name:14}{value:>16,}{beside}{_units(value):>12}")
    return "\n".join(lines)


def _units(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**28 else f"{size / 2**20:.2f} MiB"


def report(recipe: ModelRecipe, plan: Plan, measure: bool, settings: tuple[str, list[str]]) -> None:
    """Print the plan of every stage; `settings`: name and overrides of the recipe, for the processes that
    measure supervised stages. Rows of preference stages are pairs of replies, as long as `batch.length`."""
    from unified.train.measured import measure_stage

    for number, stage in enumerate(recipe.stages):
        found = stage_plan(recipe, stage, plan)
        beside = measure_stage(*settings, number, plan) if measure and stage.kind == "supervised" else None
        print(f"stage {stage.name}: {plan.name}, bytes of each process")
        print(table(found, beside), flush=True)
