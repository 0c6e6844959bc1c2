"""MAR against a golden folder (`python -m unified.checkpoints verify`): orders, masks, one training pass
and whole runs. Tolerances are those recommended there: schedules 1e-6, the rest relative to the largest
value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.mar.head_verify import relative, sections_of
from unified.checkpoints.mar.network import MAR, load, masked_loss, to_images, to_tokens
from unified.checkpoints.mar.sampling import Entered, MaskedDecoding, sample
from unified.checkpoints.recorded_noise import RecordedNoise, of_steps
from unified.checkpoints.transformer_verify import needed
from unified.heads.diffusion_schedule import cosine
from unified.orders.masked_schedule import first_masked, masked_steps, shuffled_orders, training_rate
from unified.text_files import content_of

INPUTS = (
    *(f"train.{name}" for name in ("imgs", "labels", "orders", "t", "eps", "class_drop_u")),
    *(f"sample.{name}" for name in ("labels", "orders", "noise", "noise0")),
    "train_mask.u",
)
CASES = ("cfg", "constant", "nocfg", "unlabelled")
LOOP = re.compile(r"loop\.(\d+)_(\d+)\.masked")
WATCHED = 2  # the step whose conditions are stored
LOOP_SCALE = 4.0


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this model."""
    return config.get("case") == "mar"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    with content_of(folder):
        model = load(read_state(folder, config), config["heads"])
        computed = {**_schedules(config, stored), **_training(model, config, stored)}
        for case in CASES:
            if f"sample.{case}.latent" in stored:
                computed |= _run(model, config, stored, case)
    yield from compare(stored, computed, INPUTS.__contains__, relative(stored))


def _schedules(config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    rates = training_rate(needed(stored, "train_mask.u"))
    orders = needed(stored, "numpy_orders")
    found = {
        "numpy_orders": shuffled_orders(len(orders), (orders.shape[1],), config["seed"]),
        "train_mask.rate": rates,
        "train_mask.count256": (256 * rates).ceil().long(),
    }
    for match in filter(None, map(LOOP.fullmatch, stored)):
        count, steps = int(match[1]), int(match[2])
        made = masked_steps(count, steps)
        prefix = f"loop.{count}_{steps}"
        found[f"{prefix}.masked"] = torch.tensor([step.before for step in made])
        found[f"{prefix}.predicted"] = torch.tensor([step.written for step in made])
        weights = [step.scale(LOOP_SCALE, count) for step in made]
        found[f"{prefix}.weight_cfg4"] = torch.tensor(weights, dtype=torch.float64)
    return found


def _training(model: MAR, config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tokens = to_tokens(needed(stored, "train.imgs"), config["patch"])
    orders = needed(stored, "train.orders")
    mask = first_masked(orders, math.ceil(orders.shape[1] * config["mask_rate"]))
    dropped = needed(stored, "train.class_drop_u") < config["label_drop"]
    told = model.classes(needed(stored, "train.labels"), len(tokens), dropped)
    encoded = model.encode(tokens, mask, told)
    hidden = model.decode(encoded, mask)
    steps, noise = needed(stored, "train.t"), needed(stored, "train.eps")
    loss = masked_loss(model.diffloss, hidden, tokens, mask, steps, noise)
    model.zero_grad()
    loss.backward()
    found = {
        "tokens": tokens,
        "mask": mask,
        "enc": encoded,
        "z": hidden,
        "loss": loss,
        "grad_z_proj": model.z_proj.weight.grad,
        "grad_mask_token": model.mask_token.grad,
        "grad_fake_latent": model.fake_latent.grad,
        "grad_diffusion_pos": model.diffusion_pos_embed_learned.grad,
    }
    return {f"train.{name}": value.detach() for name, value in found.items() if value is not None}


def _run(model: MAR, config: Mapping[str, Any], stored: Mapping[str, Tensor], case: str) -> dict[str, Tensor]:
    sections = sections_of(config["respacing"])
    settings = MaskedDecoding(
        steps=config["num_iter"],
        scale=config["cfg"] if case in ("cfg", "constant") else 1.0,
        linear=case != "constant",
        temperature=config["temperature"] if case in ("cfg", "nocfg") else 1.0,
        sections=sections,
    )
    count = len(cosine(1000, sections).steps)
    normal = of_steps(needed(stored, "sample.noise0"), needed(stored, "sample.noise"), count)
    labels = None if case == "unlabelled" else needed(stored, "sample.labels")
    entered: list[Entered] = []
    orders = needed(stored, "sample.orders")
    tokens = sample(model, labels, orders, RecordedNoise(normal), settings, entered.append)
    found = {
        f"sample.{case}.latent": to_images(tokens, config["grid"], config["patch"]),
        f"sample.{case}.weights": torch.tensor([step.scale for step in entered], dtype=torch.float64),
        "sample.masks": torch.stack([step.mask for step in entered]),
    }
    if len(entered) > WATCHED:
        found[f"sample.{case}.z_step2"] = entered[WATCHED].hidden
    return found
