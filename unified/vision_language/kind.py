"""Whether a folder holds a model of `transformers`."""

from __future__ import annotations

from pathlib import Path

from unified.config import UnifiedConfig
from unified.text_files import read_object

CONFIG = "config.json"


def is_pretrained(folder: Path) -> bool:
    """Whether a folder holds an image-text or text model of `transformers`."""
    if not (folder / CONFIG).is_file():
        return False
    kind = read_object(folder / CONFIG).get("model_type")
    if kind == UnifiedConfig.model_type:
        return False
    from transformers.models.auto import modeling_auto as known  # takes longer to import than torch

    return (
        kind in known.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        or kind in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    )
