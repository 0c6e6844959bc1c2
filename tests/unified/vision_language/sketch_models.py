"""Tiny image-text models with vision heads, and conversations with sketches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from unified.vision_language.sketchpad.model import Sketchpad, head_for

FAMILIES = ("gemma3", "qwen2_5_vl")
TOKENS = {"gemma3": 16, "qwen2_5_vl": 9}  # positions of a picture of 24 x 24 pixels


def picture(number: int, height: int = 24, width: int = 24) -> np.ndarray:
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def sketchpad(loaded: Any, *, images: int = 4, std: float = 0.2) -> Sketchpad:
    """A head with weights so large that what it sees changes what it predicts."""
    reader, _ = loaded
    torch.manual_seed(5)
    tokens = TOKENS[reader.config.model_type]
    head = head_for(reader, tokens=tokens, images=images, depth=(1, 2), heads=1).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return Sketchpad(reader, head)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def image(number: int) -> dict[str, Any]:
    return {"type": "image", "image": picture(number)}


def talk(sketches: int = 2, first: int = 0) -> list[dict[str, Any]]:
    """A question about one picture, and an answer with so many sketches."""
    answer = []
    for number in range(sketches):
        answer += [text(f"Two red circles{number}<actions>here</actions>"), image(first + number + 1)]
    return [
        {"role": "user", "content": [image(first), text("What is in the picture?")]},
        {"role": "assistant", "content": [*answer, text("and a blue square.")]},
    ]
