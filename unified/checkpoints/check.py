"""One line of a verification report: a tensor of a golden folder against what this code computes."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Floats: |got - want| <= atol + rtol |want| at every element (NaN never passes)."""
    if tuple(got.shape) != tuple(want.shape):
        return _shapes(name, got, want)
    difference = (got.detach().cpu().double() - want.double()).abs()
    inside = bool((difference <= atol + rtol * want.double().abs()).all())
    worst = float(difference.max()) if difference.numel() else 0.0
    tolerance = f"atol {atol:g}" + (f", rtol {rtol:g}" if rtol else "")
    return Check(name, inside, f"largest error {worst:.3g} ({tolerance})")


def not_compared(name: str, reason: str) -> Check:
    return Check(name, None, f"not compared: {reason}")


def _shapes(name: str, got: Tensor, want: Tensor) -> Check:
    return Check(name, False, f"shape {tuple(got.shape)}, expected {tuple(want.shape)}")
