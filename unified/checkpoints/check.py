"""One line of a verification report: a tensor of a golden folder against what this code computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Check:
    """`ok` is None where the tensor is not compared; `detail` then says why."""

    name: str
    ok: bool | None
    detail: str

    def __str__(self) -> str:
        state = {True: "ok  ", False: "FAIL", None: "skip"}[self.ok]
        return f"{state} {self.name}: {self.detail}"


def exact(name: str, got: Tensor, want: Tensor) -> Check:
    """Integers, booleans and masks: every element equal."""
    if tuple(got.shape) != tuple(want.shape):
        return _shapes(name, got, want)
    wrong = int((got.cpu() != want.cpu()).sum())
    return Check(name, wrong == 0, f"{wrong} of {want.numel()} differ (exact)")


def close(name: str, got: Tensor, want: Tensor, *, atol: float, rtol: float = 0.0) -> Check:
    """Floats: |got - want| <= atol + rtol |want| at every element (NaN never passes, infinity where it is
    wanted)."""
    if tuple(got.shape) != tuple(want.shape):
        return _shapes(name, got, want)
    found, wanted = got.detach().cpu().double(), want.double()
    difference = (found - wanted).abs().masked_fill(found == wanted, 0.0)
    limit = torch.where(wanted.isfinite(), atol + rtol * wanted.abs(), 0.0)
    inside = bool((difference <= limit).all())
    worst = float(difference.max()) if difference.numel() else 0.0
    tolerance = f"atol {atol:g}" + (f", rtol {rtol:g}" if rtol else "")
    return Check(name, inside, f"largest error {worst:.3g} ({tolerance})")


def not_compared(name: str, reason: str) -> Check:
    return Check(name, None, f"not compared: {reason}")


def _shapes(name: str, got: Tensor, want: Tensor) -> Check:
    return Check(name, False, f"shape {tuple(got.shape)}, expected {tuple(want.shape)}")
