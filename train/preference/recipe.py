"""Runs a recipe of preference stages alone, from a finished model to another one.

OUT/recipe.json     OUT/stages/0-dpo/ ...     OUT/model/
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unified.train.build import stage_model
from unified.train.export import export
from unified.train.machine import Machine, stage_checkpoint, stage_folder
from unified.train.preference.run import run_preference
from unified.train.preference.stage import unrolled
from unified.train.recipe import PreferenceRecipe
from unified.train.select import adapter_base
from unified.train.settings import trainer_settings, training_arguments
from unified.train.stage_files import WEIGHTS

from unified.pretrained import find, load_model


def run_recipe(recipe: PreferenceRecipe, machine: Machine) -> Path:
    """Stage after stage; what is done is found again. Returns the folder of the finished model."""
    recipe = replace(recipe, stages=unrolled(recipe.stages))
    done, last = machine.out / "model", len(recipe.stages) - 1
    folders = [stage_folder(recipe, machine, number) for number in range(last + 1)]
    pending = [number for number, folder in enumerate(folders) if not (folder / WEIGHTS).is_file()]
    model, processor = load_model(find(recipe.start or None))
    arguments = training_arguments(recipe, machine, pending[0] if pending else last)
    for number in pending:
        start = stage_model(folders[number - 1]) if number else model
        settings = trainer_settings(recipe, machine, number)
        checkpoint = stage_checkpoint(machine, folders[number])
        base = adapter_base(find(recipe.start or None), number)
        run_preference(
            recipe.stages[number], folders[number], start, processor, settings, checkpoint, base=base
        )
    if arguments.process_index == 0 and (pending or not done.exists()):
        start_folder = find(recipe.start or None)
        export(done, folders, processor, bf16=recipe.output.export_bf16, start=start_folder)
    return done
