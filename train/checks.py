"""What a recipe cannot do, said before anything is made."""

from __future__ import annotations

from unified.train.machine import Machine
from unified.train.preference.paired import check_preference
from unified.train.recipe import ModelRecipe
from unified.train.stage_model import copies_reference

from unified.objectives import build_objective


def check_optimisers(recipe: ModelRecipe, machine: Machine) -> None:
    """ValueError, before anything is made, if a stage's optimiser cannot run on this machine."""
    for stage in recipe.stages:
        if machine.deepspeed and stage.optimisation.optimiser == "muon":
            raise ValueError(
                f"stage {stage.name!r} uses muon, which needs whole matrices, and DeepSpeed cuts them to "
                "pieces: override its optimiser with adamw"
            )


def check_heads(recipe: ModelRecipe) -> None:
    """ValueError, before anything is made, if a stage asks for likelihoods that a continuous head has not."""
    if recipe.model is None or not recipe.model.continuous:
        return
    for stage in recipe.stages:
        if stage.kind == "preference":
            check_preference(stage.preference, recipe.model.head)
            continue
        objective = build_objective(stage.objective.name, stage.objective.options)
        if objective.needs_likelihood:
            raise ValueError(
                f"stage {stage.name!r}: objective {stage.objective.name!r} needs exact log-probabilities, "
                f"and the head {recipe.model.head!r} has none: use cross_entropy or dpo"
            )


def check_objectives(recipe: ModelRecipe) -> None:
    """ValueError, before anything is made, if a stage's objective needs other data than sources give."""
    for stage in recipe.stages:
        if (
            stage.kind == "supervised"
            and build_objective(stage.objective.name, stage.objective.options).needs_pairs
        ):
            raise ValueError(
                f"stage {stage.name!r}: objective {stage.objective.name!r} needs pairs of replies, which "
                "the sources of a recipe do not give: give UnifiedTrainer PairedRows (train/pairs.py)"
            )


def check_sharding(recipe: ModelRecipe, machine: Machine) -> None:
    """ValueError, before anything is made, for what FSDP2 cannot do."""
    for stage in recipe.stages:
        if machine.fsdp and stage.optimisation.optimiser == "muon":
            raise ValueError(f"stage {stage.name!r} uses muon, which needs whole matrices: not with --fsdp")
        if machine.fsdp and stage.kind == "preference":
            raise ValueError(f"stage {stage.name!r} tunes on preferences: use --deepspeed, not --fsdp")
        if machine.fsdp and copies_reference(stage):
            raise ValueError(
                f"stage {stage.name!r} needs a copy of the model as its reference, which --fsdp does not "
                'cut: train adapters alone (trains=["lora"]), or use --deepspeed'
            )
