"""The model that a stage begins with: whole in every process, or in shares (`train/sharded.py`)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from transformers import TrainingArguments
from unified.train.build import attention_for, first_model, own_attention, start_model, take_over
from unified.train.preference.stage import PreferenceStage
from unified.train.recipe import ModelRecipe, ModelShape
from unified.train.select import select
from unified.train.sharded import share_fsdp, share_zero3, without_weights, write_first
from unified.train.stage import Stage

from unified.config import UnifiedConfig
from unified.heads import LATENT_HEADS
from unified.model import UnifiedModel
from unified.objectives import build_objective
from unified.pretrained import find

FIRST = "first"  # folder of the weights that shares are taken of


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a stage's model is made of. `start`: weights of the stage before, as a file, if there is one;
    `folder`: where files are kept while shares are taken."""

    recipe: ModelRecipe
    stage: Stage
    processor: Any
    start: Path | None
    folder: Path
    device: str

    def whole(self) -> UnifiedModel:
        """The model with all its weights, parts that are not trained frozen."""
        recipe = self.recipe
        model = start_of(recipe, self.processor, self.device, take=self.start is None)
        if self.start is not None:
            model.load_state_dict(load_file(self.start))
        if recipe.model is None:
            torch.manual_seed(recipe.seed)  # of the first weights of adapters
        self._select(model)
        return model

    def sharded(self, arguments: TrainingArguments, deepspeed: dict[str, Any] | None) -> nn.Module:
        """The same in shares, of ZeRO 3 if it has a configuration, else of FSDP2. All processes call it."""
        path = self.folder / FIRST / "weights.safetensors"
        if arguments.process_index == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_first(partial(self._noted, path.parent), path)
        wait()
        model = without_weights(partial(self._empty, path.parent))
        if deepspeed is not None:
            share_zero3(model, path, deepspeed, bf16=self.stage.batch.bf16)
        else:
            share_fsdp(model, path, arguments.device)
        wait()
        if arguments.process_index == 0:
            shutil.rmtree(path.parent)
        return model

    def _noted(self, folder: Path) -> UnifiedModel:
        model = self.whole()
        model.config.save_pretrained(folder)
        return model

    def _empty(self, folder: Path) -> UnifiedModel:
        config: Any = UnifiedConfig.from_pretrained(folder)
        shape = self.recipe.model
        own = attention_for(shape.decoder, self.device) if shape else own_attention(config, self.device)
        config._attn_implementation = own
        model = UnifiedModel(config)
        self._select(model)
        return model

    def _select(self, model: nn.Module) -> None:
        chosen = self.stage.parameters
        select(model, chosen.trains, rank=chosen.adapter)


def start_of(recipe: ModelRecipe, processor: Any, device: str, *, take: bool = True) -> UnifiedModel:
    """The model before the first stage: that of `start`, or one of the recipe's own shape, with the weights
    of `start`, if it names one, unless not `take`."""
    shape = recipe.model
    if shape is None:
        return start_model(find(recipe.start), device=device)
    shape = fitted(shape, processor.visual)
    codes = None if shape.continuous else F.normalize(processor.visual.codebook().detach().cpu(), dim=-1)
    model = first_model(shape, processor.vocabulary, recipe.seed, codes, device=device)
    if take and recipe.start:
        take_over(model, find(recipe.start))
    return model


def fitted(shape: ModelShape, visual: Any) -> ModelShape:
    """The shape with what a tokenizer of latents decides about its head. ValueError if head and tokenizer are
    of different sorts."""
    told = getattr(visual, "head_options", None)
    if shape.continuous != (told is not None):
        kind = type(visual).__name__
        raise ValueError(
            f"the head {shape.head!r} writes {'latents' if shape.continuous else 'codes'}, and {kind} has "
            f"{'none' if shape.continuous else 'latents'}: "
            + (
                "give a KL-VAE (kind kl, or a folder of diffusers) as visual"
                if shape.continuous
                else f"choose model.head among {', '.join(LATENT_HEADS)}"
            )
        )
    return replace(shape, head_options={**shape.head_options, **told}) if told else shape


def wait() -> None:
    """Until all processes are here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def cuts(deepspeed: dict[str, Any] | None, *, fsdp: bool) -> bool:
    """Whether parameters are cut to pieces."""
    stage = (deepspeed or {}).get("zero_optimization", {}).get("stage", 0)
    return fsdp or stage == 3


def copies_reference(stage: Stage | PreferenceStage) -> bool:
    """Whether the stage needs a second copy of the weights to compare with."""
    if isinstance(stage, PreferenceStage):
        return stage.preference.reference == "copy" and set(stage.parameters.trains) != {"lora"}
    objective = build_objective(stage.objective.name, stage.objective.options)
    return objective.needs_reference and set(stage.parameters.trains) != {"lora"}
