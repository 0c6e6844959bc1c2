"""FLASH's drafter against a golden folder (`python -m unified.checkpoints verify`): head, alignment, loss and
compression. The tolerance is the one recommended in `flash/README.md`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.flash.loss import flash_loss
from unified.checkpoints.flash.network import FlashConfig, FlashDrafter, aligned, load
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.transformer_verify import needed

NUMBERS = ("hidden", "heads", "groups", "k", "V", "pad", "C", "image_token_id")
INPUTS = ("plain.ids", "plain.hidden", "align.in", "loss.head_weight", "loss.mask",
          "loss.target_hidden", "compress.ids", "compress.hidden")  # fmt: skip


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds FLASH's drafter."""
    return config.get("case") == "flash"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    missing = [name for name in NUMBERS if not isinstance(config.get(name), int)]
    if missing:
        raise ValueError(f"{folder}: config.json lacks {missing[0]}")
    model = load(
        read_state(folder, config),
        FlashConfig(
            codes=config["V"],
            width=config["hidden"],
            heads=config["heads"],
            groups=config["groups"],
            ahead=config["k"],
            latents=config["C"],
            pad=config["pad"],
        ),
    )
    computed = {**_plain(model, stored), **_loss(model, stored), **_alignment(stored)}
    if "compress.ids" in stored:
        computed |= _compressed(model, stored, config["image_token_id"])
    yield from compare(stored, computed, INPUTS.__contains__, _tolerance)


def _tolerance(name: str) -> Tolerance:
    return Tolerance(1e-7, 1e-3) if ".grad." in name else Tolerance(1e-5, 1e-5)


@torch.no_grad()
def _plain(model: FlashDrafter, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head on text alone."""
    ids, hidden = needed(stored, "plain.ids"), needed(stored, "plain.hidden")
    inputs = model.inputs(ids, hidden)
    q, k = model.layers.rotated(inputs)
    found = {"head_in": inputs, "q_rot": q, "k_rot": k}
    found |= {"head_out": model.layers(inputs), "output": model(ids, hidden)}
    return {f"plain.{name}": value for name, value in found.items()}


def _alignment(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`align.out_pad{n}`, filled with n."""
    names = [name for name in stored if name.startswith("align.out_pad")]
    numbers = [name.removeprefix("align.out_pad") for name in names]
    wrong = [number for number in numbers if not number.isdigit()]
    if wrong:
        raise ValueError(f"io.safetensors has an alignment with the pad {wrong[0]!r}, which is no number")
    pairs = zip(names, map(int, numbers), strict=True)
    return {name: aligned(needed(stored, "align.in"), number) for name, number in pairs}


def _loss(model: FlashDrafter, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses and gradients on text alone."""
    ids, hidden = needed(stored, "plain.ids"), needed(stored, "plain.hidden")
    target = needed(stored, "loss.target_hidden")
    model.zero_grad()
    head, mask = needed(stored, "loss.head_weight"), needed(stored, "loss.mask")
    loss = flash_loss(model(ids, hidden), target, head, mask)
    loss.total.backward()
    gradients = {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    last = "grad.layers.ar_proj.2.weight"
    gradients[last] = gradients[last][: model.config.width]  # of the first offset
    parts = {"vloss": loss.features, "ploss": loss.tokens, "total": loss.total}
    found = {**{name: value.detach() for name, value in parts.items()}, **gradients}
    return {f"loss.{name}": value for name, value in found.items()}


@torch.no_grad()
def _compressed(model: FlashDrafter, stored: Mapping[str, Tensor], image: int) -> dict[str, Tensor]:
    """The head on text with an image."""
    ids, hidden = stored["compress.ids"], needed(stored, "compress.hidden")
    span = image_span(ids, image)
    sequence = model.compressed(ids, hidden, span)
    found = {
        "weights": model.compression.weights(hidden[:, span]),
        "features": model.compression(hidden[:, span]),
        "draft_sequence": sequence,
        "output": aligned(model.layers(sequence), model.config.pad),
    }
    return {f"compress.{name}": value for name, value in found.items()}


def image_span(ids: Tensor, image: int) -> slice:
    """Where ids [B, L] hold the image token. ValueError unless that is one place in all rows."""
    at = (ids == image).nonzero()[:, 1].view(len(ids), -1) if (ids == image).any() else None
    if at is None or not (at == at[0]).all() or at.shape[1] != int(at[0, -1] - at[0, 0]) + 1:
        raise ValueError(f"the image token {image} must fill the same places of every row")
    return slice(int(at[0, 0]), int(at[0, -1]) + 1)
