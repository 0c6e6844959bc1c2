"""Golden folders of TokenUnify (`token_unify`): volumes with hidden patches, the head for the next patch, and
the losses of the mixture. Tolerances are those recommended there; volumes are compared exactly, and all else
is computed in float64, since the sums of the head are long."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io
from unified.checkpoints.state_dict import read_weights
from unified.checkpoints.token_unify import network
from unified.checkpoints.token_unify.visibility import cut_volume, mask_volume
from unified.checkpoints.transformer_verify import needed

INPUTS = ("volume", "out_low", "gt_low", "next_gt", "head.mlp_a", "head.mlp_b")
CELLS = (4, 8, 8)  # voxels that share a value of the stored outputs and clean volumes
CUT = re.compile(r"ar\.seed(\d+)\.(?:cut|fill([01])\.(?:input|next))")
MASK = re.compile(r"mask\.seed(\d+)\.fill([01])\.ratio([\d.]+)")
EPOCH = re.compile(r"alternate\.loss\.epoch(\d+)")
HEAD = "preciever."


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds the functions of TokenUnify."""
    return config.get("case") == "token_unify"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    patch = config.get("patch")
    if not isinstance(patch, list) or len(patch) != 3:
        raise ValueError(f"{folder}: patch must be three sizes, got {patch!r}")
    size = (patch[0], patch[1], patch[2])
    volume = needed(stored, "volume").numpy()
    computed: dict[str, Tensor] = {}
    for name in stored:
        if cut := CUT.fullmatch(name):
            computed |= _cut(volume, size, int(cut[1]), cut[2])
        elif mask := MASK.fullmatch(name):
            rng = np.random.RandomState(int(mask[1]))
            made = mask_volume(volume, size, float(mask[3]), rng, noise=mask[2] == "1")
            computed[name] = torch.from_numpy(made)
    computed |= _losses(folder, stored, size)
    yield from compare(stored, computed, INPUTS.__contains__, _tolerance)


def _tolerance(name: str) -> Tolerance:
    return Tolerance(0.0 if name.startswith(("ar.", "mask.")) else 1e-5)


def _cut(volume: np.ndarray, patch: tuple[int, int, int], seed: int, fill: str | None) -> dict[str, Tensor]:
    made = cut_volume(volume, patch, np.random.RandomState(seed), noise=fill == "1")
    if fill is None:
        return {f"ar.seed{seed}.cut": torch.tensor(made.count)}
    parts = {"input": made.volume, "next": made.following}
    return {f"ar.seed{seed}.fill{fill}.{key}": torch.from_numpy(value) for key, value in parts.items()}


def _losses(folder: Path, stored: Mapping[str, Tensor], patch: tuple[int, int, int]) -> dict[str, Tensor]:
    """The head's prediction, and every loss with the gradients of the joint one."""
    weights = read_weights(Path(folder) / "weights.safetensors")
    state = {name.removeprefix(HEAD): value for name, value in weights.items() if name.startswith(HEAD)}
    state["mlp.weight"] = needed(stored, "head.mlp_a") @ needed(stored, "head.mlp_b")
    head = network.load(state, patch).double()
    output = network.enlarged(needed(stored, "out_low").double(), CELLS).requires_grad_()
    clean = network.enlarged(needed(stored, "gt_low").double(), CELLS)
    following = needed(stored, "next_gt").double()
    predicted = head(output)
    loss = network.joint(output, predicted, clean, following)
    loss.backward()
    assert output.grad is not None
    by_name = {"next": network.loss_next(predicted, following), "all": network.loss_all(output, clean)}
    found = {
        "next_pred": predicted,
        "inference": output.sigmoid()[:, :, :: CELLS[0], :: CELLS[1], :: CELLS[2]],
        "joint.loss": loss,
        "joint.grad_out_sum_over_cells": network.summed(output.grad, CELLS),
        "alternate.loss.as_called_by_trainer": by_name[network.alternated(None)],
    }
    found |= {f"joint.grad.{HEAD}{n}": p.grad for n, p in head.named_parameters() if p.grad is not None}
    epochs = filter(None, map(EPOCH.fullmatch, stored))
    found |= {match[0]: by_name[network.alternated(int(match[1]))] for match in epochs}
    return {name: value.detach() for name, value in found.items()}
