"""Reconstruction augmentation: pictures as the model's own loop would hand them on.

Every picture but the first passes 0, 1 or 2 times through vision encoder, sketch decoder and resizing, so
that a model has seen the drift that its own sketches have. In the published ablation it helps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from unified.tokenizers.images import to_uint8
from unified.train.sketchpad.rows import Messages, pictures_of, with_pictures

from unified.vision_language.processor import PretrainedProcessor
from unified.vision_language.sketchpad.model import Sketchpad

MOST_TIMES = 2
Decode = Callable[[Tensor], Tensor]  # features [B, L, V] -> pictures [B, 3, H, W] in [-1, 1]


class Reconstruction:
    """`decode`: of a sketch decoder for this model's features."""

    def __init__(self, pad: Sketchpad, processor: PretrainedProcessor, decode: Decode) -> None:
        self.pad, self.processor, self.decode = pad, processor, decode

    @torch.no_grad()
    def once(self, picture: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> the picture that the decoder makes of its features, at the same size."""
        images = self.pad.encode(self.processor.pixels([picture]))
        features = self.pad.latents(images)[0].vision
        size = picture.shape[:2]
        drawn = self.decode(features[None]).clamp(-1, 1)
        found = torch.nn.functional.interpolate(drawn, size=size, mode="bicubic", antialias=True)
        return to_uint8(found)[0]

    def __call__(self, messages: Messages, rng: np.random.Generator, *, spare_last: bool) -> list[dict]:
        """A copy of a conversation. `spare_last`: the last picture is the one to be predicted, and stays."""
        pictures = pictures_of(messages)
        for number in range(1, len(pictures) - spare_last):
            for _ in range(int(rng.integers(MOST_TIMES + 1))):
                pictures[number] = self.once(pictures[number])
        return with_pictures(messages, pictures)
