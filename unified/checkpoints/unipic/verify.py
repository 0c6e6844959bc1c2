"""UniPic against a golden folder (`python -m unified.checkpoints verify`): the projector of its vision
tower, an editing pass with gradients, an editing run. Tolerances are those recommended there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.harmon.network import Harmon, Prompts, images, latents, load
from unified.checkpoints.harmon.sampling import Entered
from unified.checkpoints.harmon.verify import (
    gradients,
    loss_terms,
    prompts_of,
    run_noise,
    run_settings,
    tolerance,
    training_mask,
)
from unified.checkpoints.recorded_noise import RecordedNoise
from unified.checkpoints.transformer_verify import needed
from unified.checkpoints.unipic.editing import conditions, sample, source_image, with_source
from unified.orders.shapes import Shape
from unified.text_files import content_of

INPUTS = (
    *("edit.src_mode", "edit.tgt_mode", "und.siglip_features", "sample.init_noise", "sample.step_noise"),
    *(f"edit.{name}" for name in ("input_ids", "attention_mask", "orders", "t", "noise")),
    *(f"sample.{name}" for name in ("input_ids", "attention_mask", "orders")),
)


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this model."""
    return config.get("case") == "unipic"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    with content_of(folder):
        model = load(read_state(folder, config), config["heads"], config["llm"])
        features = needed(stored, "und.siglip_features")
        computed = {
            "und.siglip_projected": model.siglip2_proj(features),
            **_edited(model, config, stored),
            **_run(model, config, stored),
        }
    yield from compare(stored, computed, INPUTS.__contains__, tolerance)


def _prompts(config: Mapping[str, Any], stored: Mapping[str, Tensor], prefix: str) -> Prompts:
    return replace(prompts_of(stored, prefix), image=config["image_token"])


def _edited(model: Harmon, config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    grid: Shape = tuple(config["gen_shape"])
    before, tokens = (
        latents(needed(stored, f"edit.{name}_mode"), config["patch_size"]) for name in ("src", "tgt")
    )
    mask, source = training_mask(config, needed(stored, "edit.orders")), source_image(model, before, grid)
    prompts = with_source(_prompts(config, stored, "edit"), source, config["image_token"])
    hidden = conditions(model, prompts, source, tokens, mask, grid)
    terms = loss_terms(model, hidden, tokens, mask, needed(stored, "edit.t"), needed(stored, "edit.noise"))
    model.zero_grad()
    terms["loss"].backward()
    found = {"x_con": source.encoded, "z_src": source.rows, "mask": mask.float(), "z": hidden, **terms}
    named = {f"edit.{name}": value.detach() for name, value in found.items()}
    return {**named, **gradients(model, stored, "edit.grad.")}


@torch.no_grad()
def _run(model: Harmon, config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    grid: Shape = tuple(config["gen_shape"])
    settings, prompts = run_settings(config, config["samp"]), _prompts(config, stored, "sample")
    rows = len(prompts.ids) // (1 + (settings.scale != 1))
    before = latents(needed(stored, "edit.src_mode")[:rows], config["patch_size"])
    orders = needed(stored, "sample.orders")[:rows]
    recorded = run_noise(stored, "sample", settings, rows, grid[0] * grid[1])
    noise = RecordedNoise([halves[0] for halves in recorded])
    entered: list[Entered] = []
    source = source_image(model, before, grid)
    tokens = sample(model, prompts, source, orders, grid, noise, settings, entered.append)
    return {
        "sample.output": images(tokens, grid, config["patch_size"]),
        "sample.z_first": entered[0].hidden,
        "sample.z_last": entered[-1].hidden,
    }
