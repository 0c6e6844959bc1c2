"""ACDiT against a golden folder (`python -m unified.checkpoints verify`): positions, mask, one training
pass, whole runs by three solver settings. Tolerances are those recommended there, relative to the largest
value."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.acdit.network import ACDiT, BlockLayout, base, load, skip_causal
from unified.checkpoints.acdit.sampling import BlockDecoding, sample
from unified.checkpoints.check import Check
from unified.checkpoints.compare import compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.mar.head_verify import relative
from unified.checkpoints.recorded_noise import RecordedNoise
from unified.checkpoints.trace import Trace
from unified.checkpoints.transformer_verify import needed
from unified.heads.diffusion_solvers import linear_kept
from unified.layout.attention import attends
from unified.text_files import content_of

INPUTS = (*(f"train.{name}" for name in ("clean", "eps", "t", "labels")), "sample.noise")
RUN = re.compile(r"sample\.((dpm|ddim)_\w+)\.latent")
ORDINALS = ("first", "second")


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this model."""
    return config.get("case") == "acdit"


def layout_of(config: Mapping[str, Any]) -> BlockLayout:
    """The blocks that a folder's options describe."""
    return BlockLayout(
        count=config["ar_len"],
        size=config["block"],
        spatial=config["spatial"],
        temporal=config["temporal"],
        square=bool(config["square"]),
        split=tuple(config["nd_split"] or ()),
    )


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    with content_of(folder):
        model = load(read_state(folder, config), layout_of(config))
        computed = {**_tables(model), **_training(model, stored)}
        for match in filter(None, map(RUN.fullmatch, stored)):
            computed |= _run(model, config, stored, match[1], match[2])
    yield from compare(stored, computed, INPUTS.__contains__, relative(stored))


def _tables(model: ACDiT) -> dict[str, Tensor]:
    layout = model.config.layout
    cos, sin = model.rotation()
    index = skip_causal(layout)
    return {
        "position_ids": layout.positions.T,
        "rope.bases": torch.tensor([int(base(extent)) for extent in layout.extents]),
        "rope.cos": cos,
        "rope.sin": sin,
        "mask_allowed": attends(index, index)[0].to(torch.uint8),
    }


def _training(model: ACDiT, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    clean, noise, steps = (needed(stored, f"train.{name}") for name in ("clean", "eps", "t"))
    kept = linear_kept()[steps].float()[..., None, None]
    noised = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    layers = {"block0_attn": model.blocks[0].attn, "block0_out": model.blocks[0]}
    condition = model.condition(needed(stored, "train.labels"), steps)
    model.zero_grad()
    with Trace(layers) as trace:  # type: ignore[arg-type]
        output = model(clean.flatten(1, 2), noised.flatten(1, 2), condition)
    loss = (output - noise.flatten(1, 2)).square().mean()
    loss.backward()
    found = {
        **trace.found,
        "noised": noised,
        "output": output,
        "loss": loss,
        "grad_x_embedder": model.x_embedder.weight.grad,
    }
    found = {f"train.{name}": value.detach() for name, value in found.items() if value is not None}
    return {**found, "t_emb": model.t_embedder(steps.flatten())}


def _run(
    model: ACDiT, config: Mapping[str, Any], stored: Mapping[str, Tensor], name: str, solver: str
) -> dict[str, Tensor]:
    settings = BlockDecoding(
        steps=config["steps"],
        scale=1.0 if name.endswith("_nocfg") else config["cfg"],
        solver="dpm" if solver == "dpm" else "ddim",
    )
    normal = needed(stored, "sample.noise").flatten(0, -2)
    predictions: dict[int, list[Tensor]] = defaultdict(list)

    def watch(block: int, prediction: Tensor) -> None:
        predictions[block].append(prediction)

    labels = torch.tensor(config["labels"])
    found = {"latent": sample(model, labels, RecordedNoise(normal), settings, watch)}
    found["timesteps"] = torch.tensor([step.number for step in settings.path])
    for block, each in predictions.items():
        found |= {f"pred.block{block}.{n}": v for n, v in zip(ORDINALS, each, strict=False)}
    return {f"sample.{name}.{what}": value for what, value in found.items()}
