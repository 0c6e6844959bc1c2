"""xAR against a golden folder (`python -m unified.checkpoints verify`): units, one training pass, whole runs.
Tolerances are those recommended there."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.mar.network import to_images, to_tokens
from unified.checkpoints.recorded_noise import RecordedNoise
from unified.checkpoints.trace import Trace
from unified.checkpoints.transformer_verify import needed
from unified.checkpoints.xar.network import XAR, causal, flow_loss, load, noisy_units, thousandths
from unified.checkpoints.xar.sampling import UnitDecoding, sample
from unified.text_files import content_of

INPUTS = (
    *("latent", "labels", "train.t", "train.eps", "uncached.prev"),
    *("sample.latents", "sample.noise", "sample.labels"),
)
RUN = re.compile(r"((?:em|ode)_\w+)\.tokens")
EVERY = 16  # tokens of the sequence whose hidden states are stored
UNCACHED_TIME = 500
POSITIONS = 8  # rows of the gradient of positions that are stored
ORDINALS = ("first", "second")


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this model."""
    return config.get("case") == "xar"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    with content_of(folder):
        model = load(read_state(folder, config), config["heads"], config["units"])
        computed = {**_tables(model), **_training(model, stored), **_uncached(model, stored)}
        for match in filter(None, map(RUN.fullmatch, stored)):
            computed |= _run(model, config, stored, match[1])
    yield from compare(stored, computed, INPUTS.__contains__, _tolerance)


def _tolerance(name: str) -> Tolerance:
    return Tolerance(1e-5) if name.startswith(("rope.", "train.grad", "train.loss")) else Tolerance(2e-4)


def _tables(model: XAR) -> dict[str, Tensor]:
    labels = model.units.labels
    cos, sin = (table.repeat_interleave(2, dim=1) for table in model.rotation())
    return {"rope.cos": cos, "rope.sin": sin, "mask_allowed": causal(labels, labels).to(torch.uint8)}


def _training(model: XAR, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    values = model.units.split(to_tokens(needed(stored, "latent"), 1))
    flat, noise, labels = needed(stored, "train.t"), needed(stored, "train.eps"), needed(stored, "labels")
    times = flat.view(model.units.count, -1).T  # stored unit by unit
    layers: dict[str, Any] = {
        "after_z_proj_ln": model.z_proj_ln,
        "block0_attn": model.encoder_blocks[0].attn,
        "block0_out": model.encoder_blocks[0],
        "encoder_out": model.encoder_norm,
        "output": model,
    }
    model.zero_grad()
    with Trace(layers) as trace:
        loss = flow_loss(model, values, noise, times, labels)
    loss.backward()
    found: dict[str, Any] = {
        name: value if name == "output" else value[:, ::EVERY] for name, value in trace.found.items()
    }
    first: Any = model.encoder_blocks[0]
    found |= {
        "t_int": thousandths(flat),
        "time_emb": model.time_embed(thousandths(flat)),
        "input": noisy_units(values, noise, times),
        "loss": loss,
        "grad_pred_weight": model.pred.weight.grad,
        "grad_encoder_pos": model.encoder_pos_embed_learned.grad[:, :POSITIONS],  # type: ignore[index]
        "grad_ada0_bias": first.adaLN_modulation[1].bias.grad,
    }
    return {"units": values, **{f"train.{name}": value.detach() for name, value in found.items()}}


@torch.no_grad()
def _uncached(model: XAR, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The last unit in one masked pass over clean units and itself."""
    before, own = needed(stored, "uncached.prev"), needed(stored, "sample.latents")[0]
    times = torch.zeros(len(own), model.units.count, dtype=torch.long)
    times[:, -1] = UNCACHED_TIME
    condition = model.condition(needed(stored, "sample.labels"), times)
    found = model(torch.cat([before, own], dim=1), condition)
    return {"uncached.velocity": found[:, -model.units.size :]}


def _run(model: XAR, config: Mapping[str, Any], stored: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    stochastic = name.startswith("em_")
    settings = UnitDecoding(
        steps=config["steps"],
        scale=1.0 if name.endswith("_nocfg") else config["cfg"],
        interval=tuple(config["interval"]) if name.endswith("_interval") else (0.0, 1.0),
        solver="euler_maruyama" if stochastic else "euler",
    )
    normal = needed(stored, "sample.latents")[:, None]  # [U, 1, B, P, C]
    if stochastic:
        normal = torch.cat([normal, needed(stored, "sample.noise")], dim=1)
    normal = normal.permute(0, 2, 3, 1, 4).flatten(0, 2)
    velocities: dict[int, list[Tensor]] = defaultdict(list)

    def watch(unit: int, velocity: Tensor) -> None:
        velocities[unit].append(velocity)

    tokens = sample(model, needed(stored, "sample.labels"), RecordedNoise(normal), settings, watch)
    times = thousandths(torch.tensor(settings.times, dtype=torch.float64))
    found = {"tokens": to_images(tokens, model.config.side, 1), "t_int": times.expand(model.units.count, -1)}
    for unit, each in velocities.items():
        found |= {f"velocity.unit{unit}.{n}": v for n, v in zip(ORDINALS, each, strict=False)}
    return {f"{name}.{what}": value for what, value in found.items()}
