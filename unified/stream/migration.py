"""Saved models of earlier forms, brought to the form of today: the one place that knows old names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED = {"fold": "merge"}  # fields of the vocabulary
SWITCHES = {"references": "reference", "copies": "copy_gate", "grid": "grid"}  # fields of the configuration
FORMER = (*SWITCHES, "transition")
WEIGHTS = {  # prefixes of the names of weights
    "slots.reference.": "extras.reference.projection.",
    "slots.copying.": "extras.copy_gate.gate.",
    "slots.own.": "extras.own_state.",
    "slots.transition.": "extras.transition.",
    "grid.": "extras.grid.",
    "fold.merging.": "merging.merger.",
    "fold.splitting.": "merging.splitter.",
}


def migrated(config: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a `config.json` or `processor.json`, old or new, in the form of today. What is in that
    form already comes back equal. ValueError if extras are named in both forms."""
    found = dict(config)
    if isinstance(config.get("vocabulary"), Mapping):
        found["vocabulary"] = _vocabulary(config["vocabulary"])
    if any(name in config for name in FORMER):
        found = _with_extras(found)
    return found


def _vocabulary(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Before there were appended ids, all orders stood in the special block and nothing after actions."""
    found = {RENAMED.get(name, name): value for name, value in saved.items()}
    if "orders" in found:
        found.setdefault("appended", [])
    return found


def _with_extras(config: dict[str, Any]) -> dict[str, Any]:
    """Each extra had a field of its own; slots had states of their own wherever 2 x 2 codes share a
    position."""
    former = {name: config[name] for name in FORMER if name in config}
    if config.get("extras") is not None:
        raise ValueError(f"extras are named twice: put {', '.join(former)} into `extras`, too")
    extras: dict[str, Any] = {new: {} for old, new in SWITCHES.items() if former.get(old)}
    if former.get("transition"):
        extras["transition"] = {"channels": former["transition"]}
    if (config.get("vocabulary") or {}).get("merge"):
        extras["own_state"] = {}
    return {name: value for name, value in config.items() if name not in former} | {"extras": extras}


def weight_name(saved: str) -> str:
    """The name of today of a weight of the model; one of today is returned as it is."""
    for old, new in WEIGHTS.items():
        if saved.startswith(old):
            return new + saved.removeprefix(old)
    return saved
