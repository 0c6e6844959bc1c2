"""A vision head in the folder of its model: `vision_head.json` and `vision_head.safetensors`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from unified.heads.vision_head import VisionHead, VisionHeadConfig
from unified.text_files import read_object
from unified.weight_files import built

CONFIG, WEIGHTS = "vision_head.json", "vision_head.safetensors"


def has_head(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


def save_head(folder: Path, head: VisionHead) -> None:
    """Weights under their published names, without the prefix `regression_head.`."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(asdict(head.config), indent=2) + "\n", encoding="utf-8")


def load_head(folder: Path) -> VisionHead:
    """The head of a folder in evaluation mode, in float32. ValueError, in one line, if a file is missing,
    damaged or does not fit."""
    options = read_object(folder / CONFIG)
    try:
        config = VisionHeadConfig(**{**options, "depth": tuple(options.get("depth", (2, 8)))})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from None
    head = built(lambda: VisionHead(config), folder / WEIGHTS)
    return head.to(torch.float32).eval()
