"""Checks of numbers: settings, weights and predictions must be finite.

A comparison with NaN is false, so that a range check written the other way round lets it pass, and what is
computed from it is noise without an error.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # settings are checked where torch is not wanted: the voxel world does without
    from torch import Tensor


def check_number(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> None:
    """ValueError unless `value` is a finite number from `least` to `most`."""
    number = _number(value)
    if not least <= number <= most or math.isinf(number):
        ranges = {(False, False): "", (True, False): f" of at least {least:g}"}
        ranges |= {(False, True): f" of at most {most:g}", (True, True): f" from {least:g} to {most:g}"}
        limits = ranges[least > -math.inf, most < math.inf]
        raise ValueError(f"{name} must be a finite number{limits}, got {reprlib.repr(value)}")


def check_count(name: str, value: Any, least: int = 0) -> None:
    """ValueError unless `value` is a whole number of at least `least`."""
    number = _number(value)
    if not least <= number < math.inf or number != int(number):
        raise ValueError(f"{name} must be a whole number of at least {least}, got {reprlib.repr(value)}")


def check_tree(value: Any, path: str = "") -> None:
    """ValueError, naming its path, for the first float in nested dataclasses, mappings, lists and tuples that
    is not finite."""
    parts: Any = ()
    if is_dataclass(value) and not isinstance(value, type):
        parts = ((field.name, getattr(value, field.name)) for field in fields(value))
    elif isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path or 'a setting'} must be a finite number, got {value}")
    for name, part in parts:
        check_tree(part, f"{path}.{name}" if path else str(name))


def check_weights(weights: Mapping[str, Tensor]) -> None:
    """ValueError, naming the first, if any weight is NaN or infinite. One pass over the memory: the largest
    and the smallest value are NaN where any value is."""
    for name, value in weights.items():
        if value.is_floating_point() and value.numel() and value.device.type != "meta":
            wide = value.detach() if value.element_size() > 1 else value.detach().float()
            if not all(math.isfinite(limit) for limit in wide.aminmax()):
                count = int((~value.isfinite()).sum())
                raise ValueError(f"{name}: {count} of {value.numel()} weights are NaN or infinite")


def check_logits(logits: Tensor) -> None:
    """ValueError unless every distribution [..., V] has a finite largest logit: with NaN, with infinity, or
    with nothing possible there is nothing to draw from. Waits for the device."""
    if logits.numel() and not bool(logits.detach().amax(dim=-1).isfinite().all()):
        refuse_prediction("logits")


def check_values(values: Tensor) -> None:
    """ValueError unless all predicted values are finite. Waits for the device."""
    if not bool(values.detach().isfinite().all()):
        refuse_prediction("values")


def refuse_prediction(what: str) -> None:
    """ValueError that says why predictions are not finite."""
    raise ValueError(
        f"the model predicts {what} that are not finite (NaN or infinity): its weights are damaged, "
        "a guidance scale is too large, or its type has too small a range (use bfloat16 or float32)"
    )


def _number(value: Any) -> float:
    """NaN for what is no number."""
    try:
        return math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a tensor of many values
        return math.nan
