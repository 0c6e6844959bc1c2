"""VTBench's text metrics and its images against a golden folder (`python -m unified.checkpoints verify`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.cases import checked, read_cases, same
from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io
from unified.eval.metrics.legibility import ErrorRate, character_errors, pooled, vtbench_word_errors
from unified.eval.metrics.vtbench_images import Fitting, fitted, pooled_psnr, similarity, taken_back

RATE, IMAGE, DECIBEL = 1e-6, 1e-6, 1e-4
INPUT = re.compile(r"(pre|post)\..+\.input|pixel\.(original|reconstructed)")


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds cases of VTBench."""
    return config.get("case") == "vtbench"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every result of a golden folder. ValueError for an unusable folder."""
    return checked(folder, _checks)


def _checks(folder: Path) -> Iterator[Check]:
    config, cases, stored = read_config(folder), read_cases(folder), read_io(folder)
    pairs = [(pair["reconstructed"], pair["original"]) for pair in cases["pairs"]]
    characters = [character_errors(*pair) for pair in pairs]
    words = [vtbench_word_errors(*pair) for pair in pairs]
    computed = {
        "cer": torch.tensor([one.rate for one in characters], dtype=torch.float64),
        "wer": torch.tensor([one.rate for one in words], dtype=torch.float64),
        **_images(config, stored),
    }
    yield from compare(stored, computed, lambda name: INPUT.fullmatch(name) is not None, _tolerance)

    for name, counts in (("char", characters), ("word", words)):
        stated = cases["pairs"]
        yield same(
            f"cases.{name}_errors", [one.errors for one in counts], [p[f"{name}_errors"] for p in stated]
        )
        yield same(f"cases.{name}s", [one.length for one in counts], [p[f"{name}s"] for p in stated])
    for name, counts in (("cer", characters), ("wer", words)):
        yield same(
            f"cases.{name}", [one.rate for one in counts], [p[name] for p in cases["pairs"]], atol=RATE
        )
        stated = [step[name] for step in cases["running"]]
        found = [_upto(counts, step["upto"]) for step in cases["running"]]
        yield same(f"cases.running.{name}", found, stated, atol=RATE)


def _upto(counts: list[ErrorRate], number: int) -> float:
    return pooled(counts[:number]).rate


def _tolerance(name: str) -> Tolerance:
    return Tolerance(DECIBEL if name.startswith("pixel.") else IMAGE)


def _images(config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for number, case in enumerate(config["preprocess"]):
        target = case["target"]
        target = target if isinstance(target, int) else tuple(target)
        image = stored[f"pre.{number}.input"].numpy()
        found[f"pre.{number}.output"] = fitted(image, target, Fitting(**case["options"]))
    for name in ("standardize", "plain"):
        values = stored[f"post.{name}.input"]
        found[f"post.{name}.output"] = taken_back(values, standardize=name == "standardize")
    made, truth = stored["pixel.reconstructed"], stored["pixel.original"]
    found["pixel.psnr_pooled"] = pooled_psnr(made, truth)
    found["pixel.ssim"] = similarity(zip(made.chunk(2), truth.chunk(2), strict=True))
    return found
