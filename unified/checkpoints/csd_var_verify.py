"""Golden folders of CSD-VAR (`csd_var`): the subspace of a content word, the weights of scales, and the
overlap of two sets of embeddings. Weights of codes are read off the gradient of the objective. Tolerances are
those recommended there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io
from unified.checkpoints.transformer_verify import needed
from unified.objectives.content_style import CONTENT, STYLE, ContentStyle, ContentStyleConfig, overlap
from unified.objectives.scores import Scores
from unified.readers.subspace import projection, without

INPUTS = ("svd.embeddings", "apply.hidden", "apply.ids", "orth.style", "orth.content")
EVERYTHING = 10  # from this `major_scale_end` on the release weighs all codes alike
NEEDED = ("r", "style_ids", "patch_nums", "weight_cases")
OF_CASE = ("major_scale_end", "major_type", "minor")


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds the functions of CSD-VAR."""
    return config.get("case") == "csd_var"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder, needed=NEEDED), read_io(folder)
    computed = {**_subspace(config, stored), **_overlap(stored)}
    for name, case in config["weight_cases"].items():
        lacking = [option for option in OF_CASE if option not in case]
        if lacking:
            raise ValueError(f"{folder}: the case {name} lacks {lacking[0]}")
        computed |= {
            f"weights.{name}.{key}": value for key, value in _weights(case, config["patch_nums"]).items()
        }
    yield from compare(stored, computed, INPUTS.__contains__, _tolerance)


def _tolerance(name: str) -> Tolerance:
    if name == "svd.singular_values":
        return Tolerance(1e-5, 1e-5)
    return Tolerance(1e-5 if name.startswith(("svd.", "apply.")) else 1e-6)


def _subspace(config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Both projections, and hidden states without the first."""
    features, hidden = needed(stored, "svd.embeddings"), needed(stored, "apply.hidden")
    top = projection(features, config["r"])
    marks = torch.isin(needed(stored, "apply.ids"), torch.tensor(config["style_ids"]))
    return {
        "svd.singular_values": torch.linalg.svdvals(features),
        "svd.projection_top": top,
        "svd.projection_least": projection(features, config["r"], least=True),
        "apply.output": without(hidden, marks, top),
    }


def _overlap(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    style, content = (needed(stored, f"orth.{name}").clone().requires_grad_() for name in (STYLE, CONTENT))
    loss = overlap(style, content)
    loss.backward()
    assert style.grad is not None
    assert content.grad is not None
    return {"orth.loss": loss.detach(), "orth.grad_style": style.grad, "orth.grad_content": content.grad}


def _weights(case: Mapping[str, Any], sides: list[int]) -> dict[str, Tensor]:
    """The weight of one code of each scale, and of all together, in both turns."""
    end = case["major_scale_end"]
    steps = () if end >= EVERYTHING else tuple(range(end))
    objective = ContentStyle(ContentStyleConfig(steps=steps, kind=case["major_type"], minor=case["minor"]))
    areas = torch.tensor([side * side for side in sides])
    step = torch.arange(len(sides)).repeat_interleave(areas)
    first = areas.cumsum(0) - areas
    found: dict[str, Tensor] = {}
    for learnt in (STYLE, CONTENT):
        log_probs = torch.zeros(1, len(step), requires_grad=True)
        objective.loss(_scores(log_probs, step), None, {"learnt": learnt}).loss.backward()
        assert log_probs.grad is not None
        weights = -log_probs.grad[0]
        found |= {learnt: weights[first], f"{learnt}_total": weights.sum()}
    return found


def _scores(log_probs: Tensor, step: Tensor) -> Scores:
    """Of one image."""
    zeros = torch.zeros_like(step)[None]
    return Scores(
        log_probs=log_probs,
        targets=zeros == 0,
        weights=torch.ones(zeros.shape),
        segment_sums=log_probs.sum(dim=1, keepdim=True),
        step_sums=log_probs.sum(dim=1)[:, None, None],
        sample=zeros,
        segment=zeros,
        step=step[None],
    )
