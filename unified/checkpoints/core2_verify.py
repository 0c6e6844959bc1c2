"""CoRe^2's steps as its published loop computes them, against a golden folder (`python -m unified.checkpoints
verify`): slow and fast steps on given predictions, rows of each call, the adapter of a step, and the prompt
features that the release makes of a singular value decomposition."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io
from unified.decoding.guidance import guide
from unified.heads.distribution import Categorical

ADAPTERS = 28  # of the released weak model, one for each step of its schedule
INPUTS = ("cond", "null", "weak", "svd.matrix", "svd.u_rows", "svd.vh_rows")
NEEDED = ("steps", "end", "s", "g")


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds steps of CoRe^2."""
    return config.get("case") == "core2"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    missing = [name for name in NEEDED if name not in config]
    missing += [name for name in ("cond", "null", "weak") if name not in stored]
    if missing:
        raise ValueError(f"{folder}: there is no {missing[0]}")
    slow = [step < config["end"] for step in range(config["steps"])]
    computed = {"output": torch.stack([_output(config, stored, n, flag) for n, flag in enumerate(slow)])}
    rows = stored["cond"].shape[1]
    computed["rows_per_call"] = torch.tensor([2 * rows if flag else rows for flag in slow])
    computed["lora_index"] = torch.tensor([adapter(n, config["steps"]) for n in range(config["steps"])])
    if "svd.matrix" in stored:
        computed |= _features(stored)
    yield from compare(stored, computed, INPUTS.__contains__, lambda name: Tolerance(1e-6, 1e-5))


def _output(config: Mapping[str, Any], stored: Mapping[str, Tensor], step: int, slow: bool) -> Tensor:
    weak = Categorical(stored["weak"][step])
    if not slow:
        return weak.logits
    both = Categorical(torch.cat([stored["cond"][step], stored["null"][step]]))
    found: Categorical = guide(both, config["s"] - 1, len(weak.logits))  # type: ignore[assignment]
    return found.guided(weak, config["g"] - 1).logits


def adapter(step: int, steps: int) -> int:
    """Which adapter of the released weak model a step uses: in floating point, as there, and so not always
    the number of the step."""
    return min(max(math.floor(ADAPTERS - (steps - step) / steps * ADAPTERS), 0), ADAPTERS - 1)


def _features(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The product of the factors as the release cuts them (rows of U, not columns), and the singular
    values."""
    rank = len(stored["svd.s"])
    values = torch.linalg.svdvals(stored["svd.matrix"].double())[:rank].float()
    product = stored["svd.u_rows"].T @ torch.diag(values) @ stored["svd.vh_rows"]
    return {"svd.s": values, "svd.embedding": product}
