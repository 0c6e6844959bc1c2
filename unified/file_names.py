"""Where the shipped model lies, and what the files of a model's folder are called. Imports nothing, so that
`unified info` can read a folder without torch."""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).resolve().parent / "weights" / "nano"
SHIPPED_NAME = "shipped"  # what it is called in recipes and by adapters, wherever the package lies
CONFIG, PROCESSOR, WEIGHTS = "config.json", "processor.json", "model.safetensors"
VISUAL_WEIGHTS = "visual.safetensors"
