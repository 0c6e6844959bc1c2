"""Saved configurations of earlier forms, brought to the form of today: the one place that knows old names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED = {"fold": "merge"}  # fields of the vocabulary


def migrated(config: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a `config.json` or `processor.json`, old or new, in the form of today. What is in that
    form already comes back equal."""
    vocabulary = config.get("vocabulary")
    if not isinstance(vocabulary, Mapping):
        return dict(config)
    return {**config, "vocabulary": _vocabulary(vocabulary)}


def _vocabulary(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Before there were appended ids, all orders stood in the special block and nothing after actions."""
    found = {RENAMED.get(name, name): value for name, value in saved.items()}
    if "orders" in found:
        found.setdefault("appended", [])
    return found
