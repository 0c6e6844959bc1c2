"""Orthus against a golden folder (`python -m unified.checkpoints verify`): soft embedding, backbone, head,
training passes, an image after prompts. Tolerances are those recommended there, relative to the largest
value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.mar.head_verify import relative
from unified.checkpoints.orthus.generation import PatchDecoding, draw_patches, image
from unified.checkpoints.orthus.network import (
    Orthus,
    OrthusIds,
    before_patches,
    kept_shares,
    load,
    patch_loss,
    places,
)
from unified.checkpoints.recorded_noise import RecordedNoise
from unified.checkpoints.transformer_verify import needed
from unified.heads.diffusion_solvers import trailing
from unified.text_files import content_of

EVERY = 37  # steps of the schedule that are stored
TRAINED = ("mmg", "mmg_edit", "interleave")
HEADS = ("single", "cfg", "two_conditions")
INPUTS = (
    *(f"forward.{name}" for name in ("ids", "attention_mask", "latents")),
    *(f"{case}.{name}" for case in TRAINED for name in ("ids", "latents", "target", "t", "eps")),
    *(f"head.{case}.z" for case in HEADS),
    *("head.noise0", "generate.ids", "generate.attention_mask", "generate.noise0"),
)


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this model."""
    return config.get("case") == "orthus"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    with content_of(folder):
        ids = OrthusIds(
            image=config["image"],
            begin=config["boi"],
            end=config["eoi"],
            separator=config["sep"],
            first_code=config["first_image_row"],
        )
        model = load(read_state(folder, config), ids)
        computed = {**_schedule(config), **_forward(model, stored), **_drawn(model, config, stored)}
        for case in TRAINED:
            if f"{case}.ids" in stored:
                computed |= _trained(model, config, stored, case)
        computed |= _generated(model, config, stored)
        real = needed(stored, "forward.attention_mask").bool()
    for name, want in stored.items():  # nothing is meaningful at padding
        if name in computed and name.startswith("forward.") and want.shape[:2] == real.shape:
            stored[name], computed[name] = want[real], computed[name][real]
    yield from compare(stored, computed, INPUTS.__contains__, relative(stored))


def _schedule(config: Mapping[str, Any]) -> dict[str, Tensor]:
    kept = kept_shares()
    steps = [step.number for step in trailing(kept, config["steps"])]
    chosen = torch.cat([kept[::EVERY], kept[-1:]])
    return {"schedule.alphas_cumprod": chosen, "schedule.timesteps": torch.tensor(steps)}


@torch.no_grad()
def _forward(model: Orthus, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ids, latents = needed(stored, "forward.ids"), needed(stored, "forward.latents")
    mask = needed(stored, "forward.attention_mask").bool()
    read, text = model(ids, latents, mask), model(ids[:1])
    return {
        "forward.position_ids": places(mask),
        "forward.embeds": read.embeds,
        "forward.hidden": read.hidden,
        "forward.logits": model.lm_head(read.hidden),
        "forward_text.hidden": text.hidden,
        "forward_text.logits": model.lm_head(text.hidden),
    }


def _settings(config: Mapping[str, Any], scales: tuple[float, ...]) -> PatchDecoding:
    return PatchDecoding(patches=config["image_tokens"], steps=config["steps"], scales=scales)


@torch.no_grad()
def _drawn(model: Orthus, config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    scales = {
        "single": (),
        "cfg": (config["cfg"],),
        "two_conditions": (config["cfg_text"], config["cfg_image"]),
    }
    found = {}
    for case in HEADS:
        states: list[Tensor] = []
        hidden = needed(stored, f"head.{case}.z")[:, None]
        start, settings = needed(stored, "head.noise0"), _settings(config, scales[case])
        out = draw_patches(model.mlp_head, hidden, start, settings, states.append)
        found[f"head.{case}.out"] = out.repeat(len(hidden), 1)
        found[f"head.{case}.x_half"] = states[settings.steps // 2]
    return found


def _trained(
    model: Orthus, config: Mapping[str, Any], stored: Mapping[str, Tensor], case: str
) -> dict[str, Tensor]:
    names = ("ids", "latents", "target", "t", "eps")
    ids, latents, target, steps, noise = (needed(stored, f"{case}.{name}") for name in names)
    read, marks = model(ids, latents), model.config.ids
    hidden = read.hidden[before_patches(ids, marks, config["image_tokens"], every=case == "interleave")]
    made = patch_loss(model.mlp_head, hidden, target.flatten(0, 1), steps, noise)
    weights = [
        model.model.codebook_in.weight,
        model.mlp_head.condition.weight,
        model.model.embed_tokens.weight,
    ]
    gradients = torch.autograd.grad(made.loss, weights)
    rows = slice(marks.first_code, marks.first_code + model.config.codes)
    found = {
        "z": hidden,
        "noisy": made.noisy,
        "pred": made.found,
        "loss": made.loss,
        "logits": model.lm_head(read.hidden),
        "grad_codebook_in": gradients[0],
        "grad_cond_embed": gradients[1],
        "grad_image_rows": gradients[2][rows],
    }
    return {f"{case}.{name}": value.detach() for name, value in found.items()}


def _generated(model: Orthus, config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    embeds: list[Tensor] = []
    ids, mask = needed(stored, "generate.ids"), needed(stored, "generate.attention_mask").bool()
    settings = _settings(config, (config["cfg"],))
    noise = RecordedNoise(needed(stored, "generate.noise0"))
    latents = image(model, ids, mask, noise, settings, embeds.append)
    return {"generate.latents": latents[0], "generate.embeds": torch.stack(embeds)}
