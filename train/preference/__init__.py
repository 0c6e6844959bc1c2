"""Preference tuning and GRPO on streams through TRL's trainers.

`PreferenceTrainer` (DPO and its relatives) and `StreamGRPOTrainer` are subclasses of TRL's trainers that
score replies by the model's own log-probabilities. `read_pairs` reads pairs of replies, `make_pairs` makes
on-policy ones. docs/preference.md."""

from typing import Any

_PLACES = {
    "PreferenceConfig": "unified.train.preference.trainer",
    "PreferenceTrainer": "unified.train.preference.trainer",
    "StreamGRPOTrainer": "unified.train.preference.grpo",
    "Weighting": "unified.train.preference.weighting",
    "make_pairs": "unified.train.preference.on_policy",
    "read_pairs": "unified.train.preference.data",
}

__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    """TRL is imported only where a trainer of it is used."""
    import importlib

    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
