"""What else a slot that is written reads or says: each a part, chosen in the configuration. Imports
`layout`, `orders`, `heads` and `likelihood`.

To add one, write a module with a configuration and the methods of `Extra` that it needs, and give it a line
in `EXTRAS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from unified.extras.copy_gate import CopyGate, CopyGateConfig
from unified.extras.extra import Extra, Extras
from unified.extras.grid import GridEmbedding, GridEmbeddingConfig
from unified.extras.own_state import OwnState, OwnStateConfig
from unified.extras.reference_image import ReferenceImage, ReferenceImageConfig
from unified.extras.references import References
from unified.extras.transition import Transition, TransitionConfig

# Name: configuration, module. They are applied in this order.
EXTRAS: dict[str, tuple[Callable[..., Any], Any]] = {
    "transition": (TransitionConfig, Transition),
    "reference": (ReferenceImageConfig, ReferenceImage),
    "own_state": (OwnStateConfig, OwnState),
    "copy_gate": (CopyGateConfig, CopyGate),
    "grid": (GridEmbeddingConfig, GridEmbedding),
}


def check_extras(extras: Mapping[str, Mapping[str, Any]]) -> None:
    """ValueError, in one line, for an unknown extra, options that do not fit, or an extra without one that it
    needs."""
    for name, options in extras.items():
        if name not in EXTRAS:
            raise ValueError(f"unknown extra {name!r}: choose from {', '.join(EXTRAS)}")
        _configured(name, options)
        needs = EXTRAS[name][1].needs
        if needs and not any(other in extras for other in needs):
            raise ValueError(
                f"the extra {name} is of no use alone: add {' or '.join(needs)}, or leave it out"
            )


def make_extras(extras: Mapping[str, Mapping[str, Any]], width: int) -> Extras:
    """The extras of `UnifiedConfig.extras` for a backbone of this width."""
    check_extras(extras)
    found = Extras()
    for name, (_, build) in EXTRAS.items():
        if name in extras:
            found[name] = build(_configured(name, extras[name]), width)
    return found


def _configured(name: str, options: Mapping[str, Any]) -> Any:
    try:
        return EXTRAS[name][0](**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the extra {name}: {error}") from None


__all__ = ["EXTRAS", "Extra", "Extras", "References", "check_extras", "make_extras"]
